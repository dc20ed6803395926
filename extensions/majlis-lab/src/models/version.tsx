import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import * as React from 'react';

import { control, ICheck, IDeployment, IVersion } from '../api/control';
import { COMMANDS } from '../common/commands';
import { decisionPage } from '../common/hub';
import { useLab } from '../common/lab';
import { useResource } from '../common/use';
import { Badge, Dot, Loading, ProblemView } from '../common/views';
import { ago, list } from '../common/words';
import { shares } from '../deployments/words';
import { StateBadge } from './badge';
import { checkName, tierTone, verdictTone, whoDecides } from './words';

/** One version in full: evidence, decisions, where it serves, its card. */
export function VersionView(props: { model: string; version: number }): JSX.Element {
  const { model, version } = props;
  const found = useResource(['models', 'reviews'], signal => control.version(model, version, signal));
  const deployments = useResource(['deployments'], control.deployments);
  if (!found.value) {
    return found.problem ? (
      <ProblemView problem={found.problem} retry={found.reload} />
    ) : (
      <Loading label={`Loading ${model} version ${version}`} />
    );
  }
  const serving = (deployments.value ?? []).filter(one =>
    one.revisions.some(revision => revision.version === version && one.model === model)
  );
  return (
    <article className="majlis-Detail">
      <Head version={found.value} />
      {found.problem && <ProblemView problem={found.problem} retry={found.reload} />}
      <Checks checks={found.value.checks} />
      <Decisions version={found.value} />
      {serving.length > 0 && <Serving deployments={serving} />}
      <Card version={found.value} />
    </article>
  );
}

function Head({ version }: { version: IVersion }): JSX.Element {
  const { commands } = useLab().app;
  const where = { model: version.model, version: version.version };
  return (
    <header className="majlis-Detail-head">
      <div className="majlis-Line">
        <h1>
          {version.model} <span className="majlis-quiet">version {version.version}</span>
        </h1>
        <StateBadge version={version} />
        {version.tier && <Badge tone={tierTone(version.tier)}>{version.tier} risk</Badge>}
        <span className="majlis-grow" />
        {version.state === 'released' && (
          <button
            type="button"
            className="majlis-Button majlis-mod-main"
            onClick={() => void commands.execute(COMMANDS.deploy, where)}
          >
            Deploy…
          </button>
        )}
      </div>
      <p className="majlis-quiet">
        Registered by {version.owner} {ago(version.registered_at)}
        {version.tier_reasons.length > 0 && `, of ${version.tier} risk: ${version.tier_reasons.join('; ')}`}
      </p>
    </header>
  );
}

function Checks({ checks }: { checks: readonly ICheck[] }): JSX.Element {
  const explained = checks.some(check => check.reason);
  return (
    <section>
      <h2>Checks</h2>
      {checks.length === 0 ? (
        <p className="majlis-quiet">None yet. They start by themselves, and appear here as they end.</p>
      ) : (
        <table className="majlis-Table">
          <thead>
            <tr>
              <th scope="col">Check</th>
              <th scope="col">Value</th>
              <th scope="col">Needed</th>
              {explained && <th scope="col">Why</th>}
            </tr>
          </thead>
          <tbody>
            {checks.map(check => (
              <tr key={check.name}>
                <td>
                  <Dot tone={verdictTone(check)} label={check.verdict} /> {checkName(check)}
                </td>
                <td>{shown(check.value)}</td>
                <td>{shown(check.threshold)}</td>
                {explained && <td>{check.reason}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Decisions({ version }: { version: IVersion }): JSX.Element | null {
  const waits = version.state === 'in review' ? version.required : [];
  if (version.reviews.length === 0 && waits.length === 0) {
    return null;
  }
  const page = decisionPage(version.model, version.version);
  return (
    <section>
      <h2>Review</h2>
      {waits.length > 0 && (
        <p>
          Waits for {whoDecides(waits)}.{' '}
          {page && (
            <a className="majlis-Link" href={page} target="_blank" rel="noopener">
              Open the decision page
            </a>
          )}
        </p>
      )}
      <ul className="majlis-Plain">
        {version.reviews.map(review => (
          <li key={`${review.principal} ${review.at}`}>
            <Dot tone={review.decision === 'approve' ? 'good' : 'bad'} label={review.decision} />{' '}
            {review.principal} as {whoDecides([review.chair])}, {ago(review.at)}: {review.reason}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Serving({ deployments }: { deployments: readonly IDeployment[] }): JSX.Element {
  const { commands } = useLab().app;
  return (
    <section>
      <h2>Deployments</h2>
      {deployments.map(deployment => (
        <div key={deployment.name} className="majlis-Line majlis-Deployment">
          <Dot tone={deployment.ready ? 'good' : 'busy'} label={deployment.ready ? 'ready' : 'not ready'} />
          <strong>{deployment.name}</strong>
          <span className="majlis-quiet majlis-clip">
            {list(shares(deployment))}
          </span>
          <span className="majlis-grow" />
          <button
            type="button"
            className="majlis-Button"
            onClick={() => void commands.execute(COMMANDS.rollback, { name: deployment.name })}
          >
            Roll back…
          </button>
        </div>
      ))}
    </section>
  );
}

/** The model card. Its author wrote much of it, so it is shown where no script runs and nothing is fetched. */
function Card({ version }: { version: IVersion }): JSX.Element {
  const [open, setOpen] = React.useState(false);
  const path = `majlis/api/models/${encodeURIComponent(version.model)}/versions/${version.version}/card`;
  const url = URLExt.join(ServerConnection.makeSettings().baseUrl, path);
  return (
    <details className="majlis-Card" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>Model card</summary>
      {open && <iframe sandbox="" src={url} title={`Model card of ${version.model} version ${version.version}`} />}
    </details>
  );
}

function shown(value: unknown): string {
  if (typeof value === 'number') {
    return value.toLocaleString('en', { maximumSignificantDigits: 4 });
  }
  return value === null || value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value);
}
