import * as React from 'react';

import { control, IBrief, IDeployment, IPreview, Strategy } from '../api/control';
import { IResource, useAction, useResource } from '../common/use';
import { Empty, Loading, ProblemView } from '../common/views';
import { count, duration, list, megabytes } from '../common/words';
import { beginningAt, stepsOf, WHOLE } from './steps';
import { shares } from './words';

type IReleased = IBrief & { model: string };

const STRATEGIES: [Strategy, string, string][] = [
  ['at-once', 'All at once', 'rolling back is up to you'],
  ['blue-green', 'All at once, watched', 'it goes back by itself when it is worse'],
  ['canary', 'In steps', 'a growing share, watched'],
  ['a/b', 'A/B test', 'a fixed share, until somebody decides'],
  ['shadow', 'Shadow', 'it sees copies of the traffic and never answers']
];
const MOVES: Record<Strategy, string> = {
  'at-once': 'All of its traffic moves to NEXT; rolling back brings it back.',
  'blue-green': 'All of its traffic moves to NEXT, and comes back where that is worse.',
  canary: 'Its traffic moves to NEXT in steps; rolling back brings it back.',
  'a/b': 'NEXT gets a share of its callers, until somebody promotes it or goes back.',
  shadow: 'NEXT sees copies of its traffic, until somebody promotes it or ends it.'
};
const ENDS: ReadonlySet<Strategy> = new Set(['canary', 'blue-green']); // by themselves
const HALF = 50; // percent
const NAMED = /^[a-z][a-z0-9_-]{0,62}$/;
const NAME = '[a-z][a-z0-9_\\-]{0,62}'; // as the control plane has it; `-` escaped, as browsers want it

/** Serve a released version: where, and what that changes. */
export function DeployDialog(props: {
  model?: string | undefined;
  version?: number | undefined;
  close: () => void;
  done: (deployment: IDeployment) => void;
}): JSX.Element {
  const released = useResource(['models'], () => releasedVersions(props.model));
  const deployments = useResource(['deployments'], control.deployments);
  const problem = released.problem ?? deployments.problem;
  if (!released.value || !deployments.value) {
    return problem ? (
      <ProblemView problem={problem} retry={released.reload} />
    ) : (
      <Loading label="Looking for released versions" />
    );
  }
  if (released.value.length === 0) {
    return (
      <Empty title="No version is released yet">
        <p>A version is released once its checks have passed and everyone who must has approved it.</p>
      </Empty>
    );
  }
  return <DeployForm {...props} released={released.value} deployments={deployments.value} />;
}

/** Versions that may be served, of one model or of all. */
async function releasedVersions(model: string | undefined): Promise<IReleased[]> {
  const names = model === undefined ? (await control.models()).map(one => one.name) : [model];
  const found = await Promise.all(
    names.map(async name => (await control.versions(name)).map(version => ({ ...version, model: name })))
  );
  return found.flat().filter(version => version.state === 'released');
}

function DeployForm(props: {
  released: IReleased[];
  deployments: IDeployment[];
  model?: string | undefined;
  version?: number | undefined;
  close: () => void;
  done: (deployment: IDeployment) => void;
}): JSX.Element {
  const { released, deployments } = props;
  const wanted = released.findIndex(
    one => one.model === props.model && (props.version === undefined || one.version === props.version)
  );
  const [chosen, setChosen] = React.useState(Math.max(0, wanted));
  const version = released[chosen];
  const [name, setName] = React.useState(version?.model ?? '');
  const [reason, setReason] = React.useState('');
  const [strategy, setStrategy] = React.useState<Strategy>('at-once');
  const [typed, setTyped] = React.useState<string | null>(null); // the steps; null: those of the workbench
  const id = React.useId();
  const now = deployments.find(one => one.name === name);
  const moves = now?.revisions.some(revision => revision.weight > 0) ?? false; // there is traffic to be moved
  const chosenStrategy = moves ? strategy : 'at-once';
  const inSteps = chosenStrategy === 'canary';
  const divided = chosenStrategy === 'a/b';
  const [share, setShare] = React.useState(HALF);
  const { steps, fault } = read(typed);
  const asked = inSteps ? steps : [];
  const preview = useResource(
    ['deployments'],
    async signal =>
      version && NAMED.test(name) && !fault
        ? control.preview(name, version.model, version.version, chosenStrategy, asked, signal)
        : null,
    `${name} ${version?.model} ${version?.version} ${chosenStrategy} ${asked.join()}`
  );
  const planned = steps.length > 0 ? steps : (preview.value?.steps ?? []);
  const deploy = useAction(async () => {
    if (version) {
      const body = {
        model: version.model,
        version: version.version,
        reason,
        strategy: chosenStrategy,
        ...(asked.length > 0 ? { steps: asked } : {}),
        ...(divided ? { share } : {})
      };
      const deployment = await control.deploy(name, body);
      props.close();
      props.done(deployment);
    }
  });
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    deploy.run();
  };
  return (
    <form onSubmit={submit} aria-busy={deploy.busy}>
      <div className="majlis-Field">
        <label htmlFor={`${id}version`}>Version</label>
        <select
          id={`${id}version`}
          className="majlis-Input"
          autoFocus
          value={chosen}
          onChange={event => {
            const next = Number(event.target.value);
            setChosen(next);
            setName(released[next]?.model ?? name);
          }}
        >
          {released.map((one, place) => (
            <option key={`${one.model}/${one.version}`} value={place}>
              {one.model} version {one.version}
            </option>
          ))}
        </select>
      </div>
      <div className="majlis-Field">
        <label htmlFor={`${id}name`}>Deployment</label>
        <input
          id={`${id}name`}
          className="majlis-Input"
          list={`${id}names`}
          pattern={NAME}
          title="Small letters, digits, - and _, beginning with a letter"
          required
          value={name}
          onChange={event => setName(event.target.value)}
        />
        <datalist id={`${id}names`}>
          {deployments.map(one => (
            <option key={one.name} value={one.name} />
          ))}
        </datalist>
        <p className="majlis-quiet">What clients call.</p>
      </div>
      <div className="majlis-Field">
        <label htmlFor={`${id}reason`}>Reason</label>
        <input
          id={`${id}reason`}
          className="majlis-Input"
          value={reason}
          placeholder="Kept in the audit trail"
          onChange={event => setReason(event.target.value)}
        />
      </div>
      {moves && (
        <fieldset className="majlis-Choice">
          <legend>Traffic</legend>
          {STRATEGIES.map(([value, label, hint]) => (
            <label key={value} className="majlis-Check">
              <input
                type="radio"
                name={`${id}strategy`}
                checked={strategy === value}
                onChange={() => setStrategy(value)}
              />
              <span>
                {label} <span className="majlis-quiet">{hint}</span>
              </span>
            </label>
          ))}
          {divided && <Share share={share} change={setShare} />}
          {inSteps && (
            <Steps steps={planned} typed={typed ?? planned.join(', ')} fault={fault} change={setTyped} />
          )}
        </fieldset>
      )}
      <Preview version={version} name={name} now={now} preview={preview} strategy={chosenStrategy} />
      {deploy.problem && <ProblemView problem={deploy.problem} />}
      <footer className="majlis-Modal-foot">
        <span className="majlis-grow" />
        <button type="button" className="majlis-Button" onClick={props.close}>
          Cancel
        </button>
        <button type="submit" className="majlis-Button majlis-mod-main" disabled={deploy.busy || (inSteps && fault !== '')}>
          {deploy.busy ? 'Deploying…' : 'Deploy'}
        </button>
      </footer>
    </form>
  );
}

/** The first share on a slider, and all of them as text: either way the other one follows. */
function Steps(props: {
  steps: readonly number[];
  typed: string;
  fault: string;
  change: (typed: string) => void;
}): JSX.Element {
  const id = React.useId();
  const first = props.steps[0] ?? WHOLE;
  return (
    <div className="majlis-Steps">
      <label htmlFor={`${id}first`}>
        First share <output htmlFor={`${id}first`}>{first} %</output>
      </label>
      <input
        id={`${id}first`}
        type="range"
        min={1}
        max={WHOLE}
        value={first}
        aria-valuetext={`${first} percent of the traffic`}
        onChange={event => props.change(beginningAt(Number(event.target.value), props.steps).join(', '))}
      />
      <label htmlFor={`${id}steps`}>Steps, in percent</label>
      <input
        id={`${id}steps`}
        className="majlis-Input"
        inputMode="numeric"
        value={props.typed}
        aria-invalid={props.fault !== ''}
        aria-describedby={`${id}hint`}
        onChange={event => props.change(event.target.value)}
      />
      <p id={`${id}hint`} className={props.fault ? 'majlis-Fault' : 'majlis-quiet'}>
        {props.fault || 'It goes back by itself where the new version fails or is slow.'}
      </p>
      {!props.fault && (
        <ol className="majlis-Ladder" aria-label="The new version's share, step by step">
          {props.steps.map(step => (
            <li key={step} style={{ height: `${step}%` }} title={`${step} %`} />
          ))}
        </ol>
      )}
    </div>
  );
}

/** The share of the new version in an A/B test. */
function Share(props: { share: number; change: (share: number) => void }): JSX.Element {
  const id = React.useId();
  return (
    <div className="majlis-Steps">
      <label htmlFor={id}>
        Share of the new version <output htmlFor={id}>{props.share} %</output>
      </label>
      <input
        id={id}
        type="range"
        min={1}
        max={WHOLE - 1}
        value={props.share}
        aria-valuetext={`${props.share} percent of the traffic`}
        onChange={event => props.change(Number(event.target.value))}
      />
    </div>
  );
}

function read(typed: string | null): { steps: number[]; fault: string } {
  try {
    return { steps: typed === null ? [] : stepsOf(typed), fault: '' };
  } catch (reason) {
    return { steps: [], fault: (reason as Error).message };
  }
}

function Preview(props: {
  version: IReleased | undefined;
  name: string;
  now: IDeployment | undefined;
  preview: IResource<IPreview | null>;
  strategy: Strategy;
}): JSX.Element {
  const { version, name, now, strategy } = props;
  const { value, problem, reload } = props.preview;
  const next = version && `version ${version.version} of ${version.model}`;
  return (
    <div className="majlis-Preview" role="status" aria-label="What will happen">
      <p>
        {value?.same ? (
          <>
            <strong>{name}</strong> serves {next} already.
          </>
        ) : now ? (
          <>
            <strong>{name}</strong> serves {list(shares(now)) || 'nothing'} today.{' '}
            {MOVES[strategy].replace('NEXT', next ?? '')}
          </>
        ) : (
          <>
            A new deployment <strong>{name}</strong> is made. All of its traffic goes to {next}.
          </>
        )}
      </p>
      {value && !value.same && value.seconds > 0 && ENDS.has(strategy) && (
        <p>
          At the earliest it is done in {duration(value.seconds)}, and after {count(value.requests, 'request')} to the
          new version.
        </p>
      )}
      {value && <Price preview={value} />}
      {problem && <ProblemView problem={problem} retry={reload} />}
    </div>
  );
}

function Price({ preview }: { preview: IPreview }): JSX.Element {
  const { price, budget_left } = preview;
  const money = (amount: number) =>
    `${amount.toLocaleString('en', { maximumSignificantDigits: 2 })} ${price.currency}`;
  return (
    <p className="majlis-quiet">
      {price.million !== null && `About ${money(price.million)} for a million predictions, and at least `}
      {price.million === null && 'At least '}
      {money(price.loaded_month)} a month for keeping it loaded ({megabytes(price.size_bytes)}).{' '}
      {money(Math.round(budget_left))} of your budget are left this month.
    </p>
  );
}
