import * as React from 'react';

import { control, IDeployment } from '../api/control';
import { useAction, useResource } from '../common/use';
import { Empty, Loading, ProblemView } from '../common/views';
import { list } from '../common/words';
import { shares } from './words';

/** Serve again what was served before: one click, and a reason. */
export function RollbackDialog(props: {
  name?: string | undefined;
  close: () => void;
  done: (deployment: IDeployment) => void;
}): JSX.Element {
  const deployments = useResource(['deployments'], control.deployments);
  const [chosen, setChosen] = React.useState(props.name);
  const [reason, setReason] = React.useState('');
  const id = React.useId();
  const found = deployments.value?.find(one => one.name === chosen) ?? deployments.value?.[0];
  const rollback = useAction(async () => {
    if (found) {
      const deployment = await control.rollback(found.name, reason.trim());
      props.close();
      props.done(deployment);
    }
  });
  if (!deployments.value) {
    return deployments.problem ? (
      <ProblemView problem={deployments.problem} retry={deployments.reload} />
    ) : (
      <Loading label="Loading deployments" />
    );
  }
  if (!found) {
    return (
      <Empty title="Nothing is deployed">
        <p>Deploy a released version first.</p>
      </Empty>
    );
  }
  const alone = found.revisions.length < 2;
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    rollback.run();
  };
  return (
    <form onSubmit={submit} aria-busy={rollback.busy}>
      <div className="majlis-Field">
        <label htmlFor={`${id}name`}>Deployment</label>
        <select
          id={`${id}name`}
          className="majlis-Input"
          value={found.name}
          onChange={event => setChosen(event.target.value)}
        >
          {deployments.value.map(one => (
            <option key={one.name}>{one.name}</option>
          ))}
        </select>
        <p className="majlis-quiet">
          It serves {list(shares(found)) || 'nothing'} now
          {alone ? ' and has never served anything else: there is nothing to go back to.' : '.'}
        </p>
      </div>
      <div className="majlis-Field">
        <label htmlFor={`${id}reason`}>Reason</label>
        <input
          id={`${id}reason`}
          className="majlis-Input"
          required
          autoFocus
          value={reason}
          placeholder="Kept in the audit trail"
          onChange={event => setReason(event.target.value)}
        />
      </div>
      {rollback.problem && <ProblemView problem={rollback.problem} />}
      <footer className="majlis-Modal-foot">
        <span className="majlis-grow" />
        <button type="button" className="majlis-Button" onClick={props.close}>
          Cancel
        </button>
        <button
          type="submit"
          className="majlis-Button majlis-mod-main"
          disabled={rollback.busy || alone || reason.trim() === ''}
        >
          {rollback.busy ? 'Rolling back…' : 'Roll back'}
        </button>
      </footer>
    </form>
  );
}
