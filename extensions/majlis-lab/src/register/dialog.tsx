import * as React from 'react';

import { control, IModel, IVersion } from '../api/control';
import { INotebook, ITrained, server } from '../api/server';
import { useAction, useResource } from '../common/use';
import { Empty, Loading, ProblemView } from '../common/views';
import { ago } from '../common/words';
import { claims, faultOfWhere, IAsked, known, registration } from './known';

const AFFECTED: [string, string][] = [
  ['none', 'Nobody'],
  ['employees', 'Employees'],
  ['customers', 'Customers'],
  ['public', 'The public']
];
const AUTONOMY: [string, string][] = [
  ['advises', 'It advises a person'],
  ['assists', 'It prepares a person’s decision'],
  ['decides', 'It decides by itself']
];

/** Register a trained model: choose it, and say what is not known yet. */
export function RegisterDialog(props: {
  notebook: INotebook | null;
  close: () => void;
  done: (version: IVersion) => void;
}): JSX.Element {
  const trained = useResource([], () => server.trained(props.notebook));
  const models = useResource(['models'], control.models);
  const [chosen, setChosen] = React.useState(0);
  const id = React.useId();
  const problem = trained.problem ?? models.problem;
  if (!trained.value || !models.value) {
    const again = trained.problem ? trained.reload : models.reload;
    return problem ? <ProblemView problem={problem} retry={again} /> : <Loading label="Looking for trained models" />;
  }
  const one = trained.value[chosen];
  if (!one) {
    return (
      <Empty title="No trained model found">
        <p>
          Log one inside <code>with wb.track("experiment"):</code> in a notebook. The flight-delay example shows how.
        </p>
      </Empty>
    );
  }
  const options = trained.value.map((item, place) => (
    <option key={item.model_uri} value={place}>
      {item.run_name} of {item.experiment}, {ago(new Date(item.logged_at).toISOString())}
    </option>
  ));
  const count = trained.value.filter(item => item.here).length; // they come first
  const [ours, others] = [options.slice(0, count), options.slice(count)];
  return (
    <>
      <div className="majlis-Field">
        <label htmlFor={id}>Trained model</label>
        <select
          id={id}
          className="majlis-Input"
          autoFocus
          value={chosen}
          onChange={event => setChosen(Number(event.target.value))}
        >
          {ours.length > 0 && <optgroup label="From this notebook">{ours}</optgroup>}
          {others.length > 0 && (ours.length > 0 ? <optgroup label="Your others">{others}</optgroup> : others)}
        </select>
        {props.notebook && ours.length === 0 && (
          <p className="majlis-quiet">This notebook has logged no model yet; these are from your others.</p>
        )}
        <Claims trained={one} />
      </div>
      <Asking key={one.model_uri} {...props} trained={one} models={models.value} />
    </>
  );
}

function Claims({ trained }: { trained: ITrained }): JSX.Element {
  const said = Object.entries(claims(trained)).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
  const read = trained.tables.map(table => `${table.name} version ${table.version}`);
  return <p className="majlis-quiet">{[...said, ...read].join(' · ') || 'Its run logged no metrics and no tables.'}</p>;
}

/** Waits for the version registered before, which knows most of the answers. */
function Asking(props: {
  trained: ITrained;
  models: IModel[];
  close: () => void;
  done: (version: IVersion) => void;
}): JSX.Element {
  const guess = known(props.trained, undefined).name;
  const model = props.models.find(one => one.name === guess);
  const before = useResource([], async () => (model ? [await control.version(model.name, model.latest)] : []), guess);
  return before.value ? (
    <RegisterForm {...props} before={before.value[0]} />
  ) : before.problem ? (
    <ProblemView problem={before.problem} retry={before.reload} />
  ) : (
    <Loading label="Looking for the version before" />
  );
}

function RegisterForm(props: {
  trained: ITrained;
  before: IVersion | undefined;
  models: IModel[];
  close: () => void;
  done: (version: IVersion) => void;
}): JSX.Element {
  const { trained, before } = props;
  const [asked, setAsked] = React.useState<IAsked>(() => known(trained, before));
  const id = React.useId();
  const set = (change: Partial<IAsked>) => setAsked({ ...asked, ...change });
  const fault = faultOfWhere(asked.where);
  const register = useAction(async () => {
    const version = await control.register(asked.name, registration(trained, asked, before));
    props.close();
    props.done(version);
  });
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    if (!fault && !register.busy) {
      register.run();
    }
  };
  const text = (label: string, key: keyof IAsked, more: React.InputHTMLAttributes<HTMLInputElement>) => (
    <div className="majlis-Field majlis-grow">
      <label htmlFor={id + key}>{label}</label>
      <input
        id={id + key}
        className="majlis-Input"
        value={String(asked[key])}
        onChange={event => set({ [key]: event.target.value })}
        {...more}
      />
    </div>
  );
  const choice = (label: string, key: 'affected' | 'autonomy', choices: [string, string][]) => (
    <div className="majlis-Field majlis-grow">
      <label htmlFor={id + key}>{label}</label>
      <select
        id={id + key}
        className="majlis-Input"
        required
        value={asked[key]}
        onChange={event => set({ [key]: event.target.value })}
      >
        <option value="" disabled>
          Choose…
        </option>
        {choices.map(([value, words]) => (
          <option key={value} value={value}>
            {words}
          </option>
        ))}
      </select>
    </div>
  );
  return (
    <form onSubmit={submit} aria-busy={register.busy}>
      {text('Name', 'name', { required: true, pattern: '[a-z][a-z0-9_\\-]{0,62}', list: `${id}names` })}
      <datalist id={`${id}names`}>
        {props.models.map(model => (
          <option key={model.name} value={model.name} />
        ))}
      </datalist>
      <h3>What the checks measure it on</h3>
      <div className="majlis-Columns">
        {text('Table', 'table', { required: true, placeholder: 'gold.…' })}
        {text('Version', 'tableVersion', { required: true, inputMode: 'numeric', pattern: '\\d+' })}
      </div>
      <div className="majlis-Columns">
        {text('Target column', 'target', { required: true })}
        {text('Only rows where', 'where', { placeholder: '{"split": "test"}', 'aria-invalid': fault !== '' })}
      </div>
      {fault && <p className="majlis-Fault">{fault}</p>}
      <h3>What it is for</h3>
      {text('Purpose', 'purpose', { required: true, minLength: 10, placeholder: 'In a sentence' })}
      <div className="majlis-Columns">
        {choice('Whom it affects', 'affected', AFFECTED)}
        {choice('What it may do', 'autonomy', AUTONOMY)}
      </div>
      <label className="majlis-Check">
        <input
          type="checkbox"
          checked={asked.personalData}
          onChange={event => set({ personalData: event.target.checked })}
        />{' '}
        It uses data about identifiable people
      </label>
      {register.problem && <ProblemView problem={register.problem} />}
      <footer className="majlis-Modal-foot">
        <span className="majlis-quiet majlis-grow">Its checks start at once.</span>
        <button type="button" className="majlis-Button" onClick={props.close}>
          Cancel
        </button>
        <button type="submit" className="majlis-Button majlis-mod-main" disabled={register.busy || fault !== ''}>
          {register.busy ? 'Registering…' : 'Register'}
        </button>
      </footer>
    </form>
  );
}
