import * as React from 'react';

import { control, IBrief, IDeployment } from '../api/control';
import { useAction, useResource } from '../common/use';
import { Empty, Loading, ProblemView } from '../common/views';
import { list } from '../common/words';
import { shares } from './words';

type IReleased = IBrief & { model: string };

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
  const asked = released.findIndex(
    one => one.model === props.model && (props.version === undefined || one.version === props.version)
  );
  const [chosen, setChosen] = React.useState(Math.max(0, asked));
  const version = released[chosen];
  const [name, setName] = React.useState(version?.model ?? '');
  const [reason, setReason] = React.useState('');
  const id = React.useId();
  const now = deployments.find(one => one.name === name);
  const deploy = useAction(async () => {
    if (version) {
      const body = { model: version.model, version: version.version, reason };
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
      <Preview version={version} name={name} now={now} />
      {deploy.problem && <ProblemView problem={deploy.problem} />}
      <footer className="majlis-Modal-foot">
        <span className="majlis-grow" />
        <button type="button" className="majlis-Button" onClick={props.close}>
          Cancel
        </button>
        <button type="submit" className="majlis-Button majlis-mod-main" disabled={deploy.busy}>
          {deploy.busy ? 'Deploying…' : 'Deploy'}
        </button>
      </footer>
    </form>
  );
}

function Preview(props: { version: IReleased | undefined; name: string; now: IDeployment | undefined }): JSX.Element {
  const { version, name, now } = props;
  const next = version && `version ${version.version} of ${version.model}`;
  const live = now?.revisions.filter(revision => revision.weight > 0) ?? [];
  if (live.length === 1 && live[0]?.version === version?.version && now?.model === version?.model) {
    return (
      <p className="majlis-Preview" role="status">
        <strong>{name}</strong> serves {next} already.
      </p>
    );
  }
  return (
    <p className="majlis-Preview" role="status">
      {now ? (
        <>
          <strong>{name}</strong> serves {list(shares(now))} today. All of its traffic moves to {next}; rolling back
          brings it back.
        </>
      ) : (
        <>
          A new deployment <strong>{name}</strong> is made. All of its traffic goes to {next}.
        </>
      )}
    </p>
  );
}
