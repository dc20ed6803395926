/** What is typed into a form, as values; pure. */
import { IField } from '../api/server';

export type Typed = Record<string, string | boolean>;

const EXAMPLES: Partial<Record<IField['type'], string>> = { list: '[1, 2]', dict: '{"a": 1}' };

/** What the form shows at first. */
export function typedDefaults(fields: readonly IField[], given: Record<string, unknown> = {}): Typed {
  return Object.fromEntries(
    fields.map(field => [field.name, typedOf(field, field.name in given ? given[field.name] : field.default)])
  );
}

function typedOf(field: IField, value: unknown): string | boolean {
  if (field.type === 'bool' && !field.optional) {
    return value === true;
  }
  if (value === null || value === undefined) {
    return '';
  }
  return typeof value === 'string' && field.type === 'str' ? value : spaced(value);
}

/** JSON as people write it: [1, 2]. */
export function spaced(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(spaced).join(', ')}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${spaced(item)}`);
    return `{${entries.join(', ')}}`;
  }
  return JSON.stringify(value);
}

/** The value that was typed; throws an Error that says what to type instead. */
export function valueOf(field: IField, typed: string | boolean): unknown {
  if (typeof typed === 'boolean') {
    return typed;
  }
  if (typed.trim() === '' && field.optional) {
    return null;
  }
  switch (field.type) {
    case 'str':
      return typed;
    case 'int':
    case 'float': {
      const number = Number(typed);
      const whole = field.type === 'float' || Number.isInteger(number);
      if (typed.trim() === '' || !Number.isFinite(number) || !whole) {
        throw new Error(`Give a ${field.type === 'int' ? 'whole ' : ''}number.`);
      }
      return number;
    }
    default:
      return parsed(field, typed);
  }
}

function parsed(field: IField, typed: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(typed);
  } catch {
    if (field.type === 'any') {
      return typed;
    }
    throw new Error(`Write it as JSON, such as ${EXAMPLES[field.type] ?? 'true'}.`);
  }
  const kind = Array.isArray(value) ? 'list' : typeof value === 'object' ? 'dict' : typeof value;
  const wanted = field.type === 'bool' ? 'boolean' : field.type;
  if (field.type !== 'any' && kind !== wanted) {
    throw new Error(`Give a ${field.type}, such as ${EXAMPLES[field.type] ?? 'true'}.`);
  }
  return value;
}

/** Every value, or what is wrong with each field. */
export function checked(
  fields: readonly IField[],
  typed: Typed
): { values: Record<string, unknown>; faults: Record<string, string> } {
  const values: Record<string, unknown> = {};
  const faults: Record<string, string> = {};
  for (const field of fields) {
    try {
      values[field.name] = valueOf(field, typed[field.name] ?? '');
    } catch (reason) {
      faults[field.name] = (reason as Error).message;
    }
  }
  return { values, faults };
}
