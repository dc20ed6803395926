import * as React from 'react';

import { IField } from '../api/server';
import { Typed } from './form';

/** One labelled control for each field, with its help and what is wrong with what was typed. */
export function Fields(props: {
  fields: readonly IField[];
  typed: Typed;
  faults: Record<string, string>;
  change: (typed: Typed) => void;
}): JSX.Element {
  return (
    <>
      {props.fields.map((field, place) => (
        <Field
          key={field.name}
          first={place === 0}
          field={field}
          typed={props.typed[field.name] ?? ''}
          fault={props.faults[field.name]}
          change={value => props.change({ ...props.typed, [field.name]: value })}
        />
      ))}
    </>
  );
}

function Field(props: {
  field: IField;
  first: boolean;
  typed: string | boolean;
  fault: string | undefined;
  change: (value: string | boolean) => void;
}): JSX.Element {
  const { field, typed, fault } = props;
  const id = React.useId();
  const hint = field.help || (field.optional ? 'May be empty.' : '');
  const aria = { 'aria-describedby': `${id}hint`, 'aria-invalid': fault !== undefined };
  if (typeof typed === 'boolean') {
    return (
      <div className="majlis-Field">
        <label className="majlis-Check">
          <input
            type="checkbox"
            autoFocus={props.first}
            checked={typed}
            onChange={event => props.change(event.target.checked)}
            {...aria}
          />
          {field.name}
        </label>
        <p id={`${id}hint`} className="majlis-quiet">
          {hint}
        </p>
      </div>
    );
  }
  return (
    <div className="majlis-Field">
      <label htmlFor={id}>
        {field.name} <span className="majlis-quiet">{field.type === 'any' ? '' : field.type}</span>
      </label>
        <input
          id={id}
          className="majlis-Input"
          autoFocus={props.first}
          type="text"
          inputMode={field.type === 'int' ? 'numeric' : field.type === 'float' ? 'decimal' : 'text'}
          spellCheck={false}
          value={typed}
          placeholder={field.optional ? 'None' : ''}
          onChange={event => props.change(event.target.value)}
          {...aria}
        />
      <p id={`${id}hint`} className={fault ? 'majlis-Fault' : 'majlis-quiet'}>
        {fault ?? hint}
      </p>
    </div>
  );
}
