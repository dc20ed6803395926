import * as React from 'react';

import { IRun, ISchedule, IStep, RunState, server } from '../api/server';
import { COMMANDS } from '../common/commands';
import { openBeside, useLab } from '../common/lab';
import { useAction, useResource } from '../common/use';
import { Badge, Bar, Dot, Empty, Loading, ProblemView, Tone } from '../common/views';
import { agoBriefly, count, duration } from '../common/words';

const TONES: Record<RunState, Tone> = {
  pending: 'quiet',
  running: 'busy',
  done: 'good',
  reused: 'good',
  failed: 'bad',
  skipped: 'quiet',
  interrupted: 'warn'
};
const GOING: ReadonlySet<RunState> = new Set(['pending', 'running']);

/** Every run of this person, the newest first; those that go on show how far they are. */
export function RunsView(props: { shown?: string | undefined }): JSX.Element {
  const { commands } = useLab().app;
  const runs = useResource(['runs'], server.runs);
  const [open, setOpen] = React.useState<string | undefined>(props.shown);
  React.useEffect(() => setOpen(props.shown), [props.shown]);

  return (
    <section className="majlis-View" aria-label="Runs">
      <div className="majlis-Tools majlis-mod-wrap">
        <button
          type="button"
          className="majlis-Button majlis-mod-main majlis-grow"
          onClick={() => void commands.execute(COMMANDS.runPipeline)}
        >
          Run pipeline…
        </button>
        <button
          type="button"
          className="majlis-Button majlis-grow"
          onClick={() => void commands.execute(COMMANDS.runNotebook)}
        >
          Run notebook…
        </button>
      </div>
      <Schedules />
      {!runs.value ? (
        runs.problem ? (
          <ProblemView problem={runs.problem} retry={runs.reload} />
        ) : (
          <Loading label="Loading runs" />
        )
      ) : runs.value.length === 0 ? (
        <Empty title="Nothing was run yet">
          <p>Run a pipeline, or the notebook that is open. What it made is kept here.</p>
        </Empty>
      ) : (
        <ul className="majlis-Runs" aria-label="Runs, the newest first">
          {runs.value.map(run => (
            <Run
              key={run.id}
              run={run}
              open={open === run.id}
              toggle={() => setOpen(open === run.id ? undefined : run.id)}
              reload={runs.reload}
            />
          ))}
        </ul>
      )}
    </section>
  );
}

function Run(props: { run: IRun; open: boolean; toggle: () => void; reload: () => void }): JSX.Element {
  const { run, open } = props;
  const going = GOING.has(run.state);
  const id = React.useId();
  return (
    <li className="majlis-Run">
      <button
        type="button"
        className="majlis-Run-head"
        aria-expanded={open}
        aria-controls={id}
        onClick={props.toggle}
      >
        <span className="majlis-Line">
          <span className={open ? 'majlis-Caret majlis-mod-open' : 'majlis-Caret'} aria-hidden="true" />
          <span className="majlis-Name">{run.title || run.pipeline}</span>
          <Badge tone={TONES[run.state]}>{run.state === 'pending' ? 'starting' : run.state}</Badge>
        </span>
        <span className="majlis-Line majlis-quiet majlis-Under">
          <span className="majlis-clip">{summary(run)}</span>
        </span>
      </button>
      {going && <Bar share={progress(run)} tone="busy" label={`Progress of ${run.title || run.pipeline}`} />}
      {open && (
        <div id={id} className="majlis-Run-body">
          {run.reason && !going && !run.steps.some(step => step.failure) && <p className="majlis-Reason">{run.reason}</p>}
          <ol className="majlis-Plain">
            {run.steps.map(step => (
              <Step key={step.name} step={step} run={run} />
            ))}
          </ol>
          <Actions run={run} reload={props.reload} />
        </div>
      )}
    </li>
  );
}

function Step({ step, run }: { step: IStep; run: IRun }): JSX.Element {
  const lab = useLab();
  const executed = run.folder && step.started_at ? `${run.folder}/${step.executed}` : null;
  return (
    <li className="majlis-Step">
      <div className="majlis-Line">
        <Dot tone={TONES[step.state]} label={step.state} />
        <span className="majlis-grow majlis-clip" title={step.reason}>
          {step.name} <span className="majlis-quiet">{stepInWords(step)}</span>
        </span>
        {executed && (
          <button
            type="button"
            className="majlis-Link"
            aria-label={`Open the executed notebook of ${step.name}`}
            onClick={() => openBeside(lab, executed)}
          >
            Open
          </button>
        )}
      </div>
      {step.state === 'running' && step.cells > 0 && (
        <Bar share={step.cell / step.cells} tone="busy" label={`Cells of ${step.name}`} />
      )}
      {step.failure && (
        <>
          <p className="majlis-Fault">
            {step.failure.cell !== null && `Cell ${step.failure.cell}: `}
            {step.failure.error}: {step.failure.message.split('\n')[0]}
          </p>
          {executed && run.source && step.failure.cell !== null && (
            <button
              type="button"
              className="majlis-Link"
              title="Opens a copy of what was executed, runs it up to that cell, and stops there"
              onClick={() =>
                void lab.app.commands.execute(COMMANDS.mend, { executed, source: sourceOf(run.source ?? '', step) })
              }
            >
              Try again from cell {step.failure.cell}
            </button>
          )}
        </>
      )}
    </li>
  );
}

function Actions({ run, reload }: { run: IRun; reload: () => void }): JSX.Element {
  const { commands } = useLab().app;
  const going = GOING.has(run.state);
  const act = useAction(async () => {
    await (going ? server.cancel(run.id) : server.resume(run.id));
    reload();
  });
  const resumable = run.state === 'failed' || run.state === 'interrupted';
  return (
    <>
      {act.problem && <ProblemView problem={act.problem} />}
      <div className="majlis-Line majlis-Actions">
        {going && (
          <button type="button" className="majlis-Button" disabled={act.busy} onClick={act.run}>
            {act.busy ? 'Cancelling…' : 'Cancel'}
          </button>
        )}
        {resumable && (
          <button
            type="button"
            className="majlis-Button majlis-mod-main"
            disabled={act.busy}
            title="The steps that are done stay done"
            onClick={act.run}
          >
            Resume from {run.steps.find(step => step.state !== 'done' && step.state !== 'reused')?.name}
          </button>
        )}
        {!going && run.source && (
          <button
            type="button"
            className="majlis-Button"
            onClick={() =>
              void commands.execute(run.source?.endsWith('.ipynb') ? COMMANDS.runNotebook : COMMANDS.runPipeline, {
                path: run.source,
                parameters: run.parameters as never,
                profile: run.profile
              })
            }
          >
            Run again…
          </button>
        )}
      </div>
    </>
  );
}

/** Where the notebook of a step is, as the file browser names it. */
function sourceOf(source: string, step: IStep): string {
  return source.endsWith('.ipynb') ? source : `${source}/${step.notebook}`;
}

/** What runs by itself, and when the next time is. */
function Schedules(): JSX.Element | null {
  const schedules = useResource(['runs'], server.schedules);
  if (schedules.problem) {
    return <ProblemView problem={schedules.problem} retry={schedules.reload} />;
  }
  if (!schedules.value || schedules.value.length === 0) {
    return null;
  }
  return (
    <section className="majlis-Schedules" aria-label="Schedules">
      <h2>Scheduled</h2>
      <ul className="majlis-Plain">
        {schedules.value.map(one => (
          <Scheduled key={one.name} schedule={one} reload={schedules.reload} />
        ))}
      </ul>
    </section>
  );
}

function Scheduled({ schedule, reload }: { schedule: ISchedule; reload: () => void }): JSX.Element {
  const forget = useAction(async () => {
    await server.forget(schedule.name);
    reload();
  });
  const when = schedule.table
    ? `when ${schedule.table} changes`
    : schedule.next
      ? `next ${agoBriefly(schedule.next)}`
      : 'paused';
  const where = schedule.profile ? ` on ${schedule.profile}` : '';
  return (
    <li className="majlis-Step">
      <div className="majlis-Line">
        <Dot tone={schedule.paused ? 'quiet' : 'busy'} label={schedule.paused ? 'paused' : 'scheduled'} />
        <span className="majlis-grow majlis-clip" title={schedule.cron ?? schedule.table ?? ''}>
          {schedule.name}{' '}
          <span className="majlis-quiet">
            {when}
            {where}
          </span>
        </span>
        <button
          type="button"
          className="majlis-Link"
          aria-label={`Remove the schedule ${schedule.name}`}
          disabled={forget.busy}
          onClick={forget.run}
        >
          Remove
        </button>
      </div>
      {schedule.note && schedule.note !== 'started' && <p className="majlis-quiet">{schedule.note}</p>}
      {forget.problem && <ProblemView problem={forget.problem} />}
    </li>
  );
}

function stepInWords(step: IStep): string {
  if (step.state === 'running') {
    return step.cells ? `cell ${step.cell} of ${step.cells}` : 'starting';
  }
  return step.state === 'done' ? duration(step.usage.seconds) : step.state === 'pending' ? '' : step.state;
}

/** "step 2 of 6 · started 3 minutes ago". */
function summary(run: IRun): string {
  const finished = run.steps.filter(step => step.state === 'done' || step.state === 'reused').length;
  const reused = run.steps.filter(step => step.state === 'reused').length;
  const where = run.profile ? `on ${run.profile} · ` : '';
  if (GOING.has(run.state)) {
    const now = run.steps.find(step => step.state === 'running');
    if (!now && run.profile) {
      return `${where}its server is starting`;
    }
    return `${where}${now ? now.name : 'starting'} · ${finished} of ${count(run.steps.length, 'step')} done`;
  }
  const kept = reused > 0 ? ` · ${reused} reused` : '';
  return `${where}${finished} of ${count(run.steps.length, 'step')}${kept} · ${agoBriefly(run.started_at)}`;
}

function progress(run: IRun): number {
  const shares = run.steps.map(step =>
    step.state === 'done' || step.state === 'reused' ? 1 : step.cells > 0 ? step.cell / step.cells : 0
  );
  return shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length);
}
