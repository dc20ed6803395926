import * as React from 'react';

import { IForm, IProfile, IRun, server, Source } from '../api/server';
import { useAction, useResource } from '../common/use';
import { Empty, Loading, ProblemView } from '../common/views';
import { count } from '../common/words';
import { Fields } from './fields';
import { AT_A_TIME, IChoice, nameOf, OFTEN, Often, whenOf } from './when';
import { checked, typedDefaults } from './form';

/** Run a notebook: its `parameters` cell as a form. */
export function NotebookDialog(props: {
  path: string;
  profile?: string | undefined; // of an earlier run, to run it again there
  close: () => void;
  started: (run: IRun) => void;
  scheduled: () => void;
}): JSX.Element {
  const form = useResource([], () => server.parameters(props.path), props.path);
  if (!form.value) {
    return form.problem ? (
      <ProblemView problem={form.problem} retry={form.reload} />
    ) : (
      <Loading label="Reading the notebook's parameters" />
    );
  }
  return <RunForm {...props} form={form.value} source={{ notebook: props.path }} />;
}

/** Run a pipeline: choose it, then its parameters. */
export function PipelineDialog(props: {
  path?: string | undefined;
  parameters?: Record<string, unknown> | undefined; // of an earlier run, to run it again
  profile?: string | undefined;
  close: () => void;
  started: (run: IRun) => void;
  scheduled: () => void;
}): JSX.Element {
  const forms = useResource([], server.pipelines);
  const [chosen, setChosen] = React.useState(props.path);
  const id = React.useId();
  if (!forms.value) {
    return forms.problem ? (
      <ProblemView problem={forms.problem} retry={forms.reload} />
    ) : (
      <Loading label="Looking for pipelines" />
    );
  }
  if (forms.value.length === 0) {
    return (
      <Empty title="No pipelines yet">
        <p>
          A pipeline is a folder with notebooks and a <code>pipeline.yaml</code>. Put it below{' '}
          <code>notebooks/</code>, or run a single notebook with the button in its toolbar.
        </p>
      </Empty>
    );
  }
  const form = forms.value.find(one => one.path === chosen) ?? forms.value[0];
  return (
    <>
      <div className="majlis-Field">
        <label htmlFor={id}>Pipeline</label>
        <select
          id={id}
          className="majlis-Input"
          autoFocus
          value={form?.path}
          onChange={event => setChosen(event.target.value)}
        >
          {forms.value.map(one => (
            <option key={one.path} value={one.path}>
              {one.title || one.name}
            </option>
          ))}
        </select>
      </div>
      {form &&
        (form.problem ? (
          <div className="majlis-Problem" role="alert">
            <strong>This pipeline cannot run</strong>
            <p>{form.problem.detail}</p>
            <p className="majlis-quiet">{form.problem.remedy}</p>
          </div>
        ) : (
          <RunForm
            key={form.path}
            close={props.close}
            started={props.started}
            scheduled={props.scheduled}
            form={form}
            given={form.path === props.path ? props.parameters : undefined}
            profile={props.profile}
            source={{ pipeline: form.path }}
          />
        ))}
    </>
  );
}

function RunForm(props: {
  form: IForm;
  source: Source;
  given?: Record<string, unknown> | undefined;
  profile?: string | undefined; // of an earlier run, to run it again there
  close: () => void;
  started: (run: IRun) => void;
  scheduled: () => void;
}): JSX.Element {
  const { form } = props;
  const [typed, setTyped] = React.useState(() => typedDefaults(form.fields, props.given));
  const { values, faults } = checked(form.fields, typed);
  const faulty = Object.keys(faults).length > 0;
  const [choice, setChoice] = React.useState<IChoice>({ often: 'now', time: '03:00', text: '', name: nameOf(form.name) });
  const when = whenOf(choice);
  const profiles = useResource([], server.profiles).value ?? [];
  const [profile, setProfile] = React.useState(props.profile ?? '');
  const chosen = profiles.find(one => one.name === profile); // none: it runs on the usual server
  const start = useAction(async () => {
    if (when) {
      await server.schedule(choice.name, form.path, when, values, chosen?.name ?? '');
      props.close();
      props.scheduled();
    } else {
      const run = await server.start(props.source, values, chosen?.name ?? '');
      props.close();
      props.started(run);
    }
  });
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    if (!faulty && !start.busy) {
      start.run();
    }
  };
  return (
    <form onSubmit={submit} aria-busy={start.busy}>
      {form.description && <p>{form.description}</p>}
      {form.fields.length > 0 ? (
        <Fields fields={form.fields} typed={typed} faults={faults} change={setTyped} />
      ) : (
        <p className="majlis-quiet">
          {'notebook' in props.source
            ? 'It declares no parameters. Tag a cell “parameters” to be asked for its values here.'
            : 'It has no parameters.'}
        </p>
      )}
      <WhenFields choice={choice} change={setChoice} />
      {profiles.length > 0 && (
        <WhereField
          usual={when ? 'On your usual server' : 'Here, on your server'}
          profiles={profiles}
          chosen={chosen}
          change={setProfile}
        />
      )}
      {start.problem && <ProblemView problem={start.problem} />}
      <footer className="majlis-Modal-foot">
        <span className="majlis-quiet majlis-grow">
          {when
            ? profiles.length > 0 && 'cron' in when
              ? 'Your server need not be up: one is started for the run, and stops when it is over.'
              : 'It runs while your server is up; what was missed is made up for at its next start.'
            : `${count(form.steps.length, 'notebook')}, in a process of its own: ${
                chosen ? 'it goes on when your server stops.' : 'it goes on when you close this page.'
              }`}
        </span>
        <button type="button" className="majlis-Button" onClick={props.close}>
          Cancel
        </button>
        <button
          type="submit"
          className="majlis-Button majlis-mod-main"
          autoFocus={form.fields.length === 0}
          disabled={faulty || start.busy}
        >
          {when ? (start.busy ? 'Scheduling…' : 'Schedule') : start.busy ? 'Starting…' : 'Run'}
        </button>
      </footer>
    </form>
  );
}

/** On the usual server, or on one of its own with another profile. */
function WhereField(props: {
  usual: string;
  profiles: readonly IProfile[];
  chosen: IProfile | undefined;
  change: (name: string) => void;
}): JSX.Element {
  const { chosen } = props;
  const id = React.useId();
  return (
    <div className="majlis-Field">
      <label htmlFor={id}>Where</label>
      <select
        id={id}
        className="majlis-Input"
        value={chosen?.name ?? ''}
        aria-describedby={`${id}hint`}
        onChange={event => props.change(event.target.value)}
      >
        <option value="">{props.usual}</option>
        {props.profiles.map(one => (
          <option key={one.name} value={one.name}>
            {one.title}: {one.size}
          </option>
        ))}
      </select>
      {chosen && (
        <p id={`${id}hint`} className="majlis-quiet">
          {chosen.description} A server of its own, with your files; it stops when the run is over.
        </p>
      )}
    </div>
  );
}

const FIELDS = '\\s*\\S+(\\s+\\S+){4}\\s*';

/** Now, at times, or when a table changes. */
function WhenFields(props: { choice: IChoice; change: (choice: IChoice) => void }): JSX.Element {
  const { choice } = props;
  const id = React.useId();
  const set = (part: Partial<IChoice>) => props.change({ ...choice, ...part });
  const written = choice.often === 'cron' || choice.often === 'table';
  return (
    <>
      <div className="majlis-Columns">
        <div className="majlis-Field majlis-grow">
          <label htmlFor={`${id}often`}>When</label>
          <select
            id={`${id}often`}
            className="majlis-Input"
            value={choice.often}
            onChange={event => set({ often: event.target.value as Often, text: '' })}
          >
            {OFTEN.map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </div>
        {AT_A_TIME.has(choice.often) && (
          <div className="majlis-Field">
            <label htmlFor={`${id}time`}>At, UTC</label>
            <input
              id={`${id}time`}
              className="majlis-Input"
              type="time"
              required
              value={choice.time}
              onChange={event => set({ time: event.target.value })}
            />
          </div>
        )}
        {written && (
          <div className="majlis-Field majlis-grow">
            <label htmlFor={`${id}text`}>{choice.often === 'table' ? 'Table' : 'Minute hour day month weekday'}</label>
            <input
              id={`${id}text`}
              className="majlis-Input"
              required
              pattern={choice.often === 'cron' ? FIELDS : undefined}
              title={choice.often === 'cron' ? 'Five fields with blanks between them, such as 0 6 * * 1-5' : undefined}
              value={choice.text}
              placeholder={choice.often === 'table' ? 'gold.flights' : '0 6 * * 1-5'}
              onChange={event => set({ text: event.target.value })}
            />
          </div>
        )}
      </div>
      {choice.often !== 'now' && (
        <div className="majlis-Field">
          <label htmlFor={`${id}name`}>Name of the schedule</label>
          <input
            id={`${id}name`}
            className="majlis-Input"
            required
            pattern="[a-z0-9][a-z0-9_\-]{0,62}"
            title="Small letters, digits, - and _"
            value={choice.name}
            onChange={event => set({ name: event.target.value })}
          />
        </div>
      )}
    </>
  );
}
