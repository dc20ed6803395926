import * as React from 'react';

import { IForm, IRun, server, Source } from '../api/server';
import { useAction, useResource } from '../common/use';
import { Empty, Loading, ProblemView } from '../common/views';
import { count } from '../common/words';
import { Fields } from './fields';
import { checked, typedDefaults } from './form';

/** Run a notebook: its `parameters` cell as a form. */
export function NotebookDialog(props: {
  path: string;
  close: () => void;
  started: (run: IRun) => void;
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
  close: () => void;
  started: (run: IRun) => void;
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
            form={form}
            given={form.path === props.path ? props.parameters : undefined}
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
  close: () => void;
  started: (run: IRun) => void;
}): JSX.Element {
  const { form } = props;
  const [typed, setTyped] = React.useState(() => typedDefaults(form.fields, props.given));
  const { values, faults } = checked(form.fields, typed);
  const faulty = Object.keys(faults).length > 0;
  const start = useAction(async () => {
    const run = await server.start(props.source, values);
    props.close();
    props.started(run);
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
      {start.problem && <ProblemView problem={start.problem} />}
      <footer className="majlis-Modal-foot">
        <span className="majlis-quiet majlis-grow">
          {count(form.steps.length, 'notebook')}, in a process of its own: it goes on when you close this page.
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
          {start.busy ? 'Starting…' : 'Run'}
        </button>
      </footer>
    </form>
  );
}
