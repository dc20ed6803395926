import * as React from 'react';

import { control, IWaiting } from '../api/control';
import { COMMANDS } from '../common/commands';
import { decisionPage } from '../common/hub';
import { useLab } from '../common/lab';
import { useResource } from '../common/use';
import { Badge, Empty, Loading, ProblemView } from '../common/views';
import { agoBriefly } from '../common/words';
import { tierTone, whoDecides } from '../models/words';

/** The versions that people still have to decide on. The decision itself is made on the workbench's own page. */
export function ReviewsView(): JSX.Element {
  const reviews = useResource(['reviews'], control.reviews);
  if (!reviews.value) {
    return reviews.problem ? (
      <ProblemView problem={reviews.problem} retry={reviews.reload} />
    ) : (
      <Loading label="Loading reviews" />
    );
  }
  return (
    <section className="majlis-View" aria-label="Reviews">
      {reviews.value.length === 0 ? (
        <Empty title="Nothing to decide">
          <p>A version appears here once its checks have passed and people must look at it.</p>
        </Empty>
      ) : (
        <ul className="majlis-Runs">
          {reviews.value.map(waiting => (
            <Waiting key={`${waiting.model}/${waiting.version}`} waiting={waiting} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Waiting({ waiting }: { waiting: IWaiting }): JSX.Element {
  const { commands } = useLab().app;
  const { model, version } = waiting;
  const page = decisionPage(model, version);
  return (
    <li className="majlis-Run majlis-Waiting">
      <div className="majlis-Line">
        <button
          type="button"
          className="majlis-Link majlis-Name"
          onClick={() => void commands.execute(COMMANDS.version, { model, version })}
        >
          {model} v{version}
        </button>
        {waiting.tier && <Badge tone={tierTone(waiting.tier)}>{waiting.tier} risk</Badge>}
        {waiting.overdue && <Badge tone="bad">overdue</Badge>}
      </div>
      <div className="majlis-Line majlis-quiet">
        <span className="majlis-clip">
          waits for {whoDecides(waiting.required)}
        </span>
      </div>
      <div className="majlis-Line majlis-quiet">
        <span className="majlis-clip">
          {waiting.due && `due ${agoBriefly(waiting.due)} · `}registered by {waiting.owner}
        </span>
      </div>
      {page && (
        <a className="majlis-Link" href={page} target="_blank" rel="noopener">
          Decide on the review page
        </a>
      )}
    </li>
  );
}
