import * as React from 'react';

import { control, IBrief } from '../api/control';
import { Problem } from '../api/request';
import { COMMANDS } from '../common/commands';
import { useLab } from '../common/lab';
import { IResource, useResource } from '../common/use';
import { Badge, Dot, Empty, Loading, ProblemView } from '../common/views';
import { VirtualTree } from '../common/virtual';
import { agoBriefly, count, list } from '../common/words';
import { percent } from '../deployments/words';
import { StateBadge } from './badge';
import { chosen, IModelRow, IVersionRow, Row, rowsOf, Show } from './rows';
import { checksInWords, tierTone, whoDecides } from './words';

const SHOWS: [Show, string][] = [
  ['all', 'All models'],
  ['production', 'In production'],
  ['review', 'In review'],
  ['high', 'High risk'],
  ['medium', 'Medium risk'],
  ['low', 'Low risk']
];

/** Registered models and their versions: how far each is, and where it serves. */
export function ModelsView(): JSX.Element {
  const lab = useLab();
  const [search, setSearch] = React.useState('');
  const [show, setShow] = React.useState<Show>('all');
  const [open, setOpen] = React.useState<ReadonlySet<string>>(new Set());
  const models = useResource(['models'], control.models);
  const reviews = useResource(['reviews', 'models'], control.reviews);
  const deployments = useResource(['deployments', 'models'], control.deployments);
  const versions = useVersions(open);

  const found = React.useMemo(
    () => chosen(models.value ?? [], reviews.value ?? [], search, show),
    [models.value, reviews.value, search, show]
  );
  const rows = React.useMemo(
    () => rowsOf(found, versions.value ?? new Map(), open, reviews.value ?? [], deployments.value ?? []),
    [found, versions.value, open, reviews.value, deployments.value]
  );

  const toggle = (name: string, to = !open.has(name)) => {
    const next = new Set(open);
    if (to) {
      next.add(name);
    } else {
      next.delete(name);
    }
    setOpen(next);
  };
  const onKey = (row: Row, key: string) => {
    if (row.kind === 'model') {
      toggle(row.model.name, key === 'ArrowRight' ? true : key === 'ArrowLeft' ? false : undefined);
    } else if (row.kind === 'version' && key !== 'ArrowLeft' && key !== 'ArrowRight') {
      openVersion(row);
    }
  };
  const openVersion = (row: IVersionRow) =>
    void lab.app.commands.execute(COMMANDS.version, { model: row.model, version: row.version.version });

  return (
    <section className="majlis-View" aria-label="Models">
      <div className="majlis-Tools">
        <input
          type="search"
          className="majlis-Input"
          placeholder="Search"
          aria-label="Search models"
          value={search}
          onChange={event => setSearch(event.target.value)}
        />
        <select
          className="majlis-Input"
          aria-label="Which models are shown"
          value={show}
          onChange={event => setShow(event.target.value as Show)}
        >
          {SHOWS.map(([value, label]) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
      </div>
      <List models={models} found={found.length} clear={() => (setSearch(''), setShow('all'))}>
        <VirtualTree
          label="Models and their versions"
          rows={rows}
          onKey={onKey}
          attributes={row =>
            row.kind === 'model'
              ? {
                  'aria-level': 1,
                  'aria-expanded': row.open,
                  'aria-label': `${row.model.name}, ${count(row.model.versions, 'version')}`,
                  onClick: () => toggle(row.model.name)
                }
              : row.kind === 'version'
                ? {
                    'aria-level': 2,
                    'aria-label': `${row.model} version ${row.version.version}, ${row.version.state}`,
                    onClick: () => openVersion(row)
                  }
                : { 'aria-level': 2 }
          }
          render={row =>
            row.kind === 'model' ? (
              <Model row={row} />
            ) : row.kind === 'version' ? (
              <Version row={row} />
            ) : (
              <Note problem={versions.problem} retry={versions.reload} />
            )
          }
        />
      </List>
    </section>
  );
}

/** The versions of the models that are open. */
function useVersions(open: ReadonlySet<string>): IResource<ReadonlyMap<string, IBrief[]>> {
  const names = [...open].sort();
  const known = React.useRef(new Map<string, IBrief[]>());
  const found = useResource(['models', 'reviews'], async signal => {
    const entries = await Promise.all(
      names.map(async name => [name, await control.versions(name, signal)] as const)
    );
    known.current = new Map(entries);
    return known.current;
  }, names.join('/'));
  return { ...found, value: found.value ?? known.current };
}

function List(props: {
  models: IResource<unknown[]>;
  found: number;
  clear: () => void;
  children: JSX.Element;
}): JSX.Element {
  const { value, problem, reload } = props.models;
  if (!value) {
    return problem ? <ProblemView problem={problem} retry={reload} /> : <Loading label="Loading models" />;
  }
  if (value.length === 0) {
    return (
      <Empty title="No models yet">
        <p>Train one in a notebook, then register it with the button in the notebook's toolbar.</p>
      </Empty>
    );
  }
  if (props.found === 0) {
    return (
      <Empty title="No model matches">
        <button type="button" className="majlis-Button" onClick={props.clear}>
          Show all models
        </button>
      </Empty>
    );
  }
  return (
    <>
      {props.children}
      <footer className="majlis-Foot" role="status">
        {props.found === value.length
          ? count(value.length, 'model')
          : `${props.found.toLocaleString('en')} of ${count(value.length, 'model')}`}
      </footer>
    </>
  );
}

function Model({ row }: { row: IModelRow }): JSX.Element {
  const { model } = row;
  const production = model.production === null ? 'not in production' : `v${model.production} in production`;
  return (
    <div className="majlis-Model">
      <span className={row.open ? 'majlis-Caret majlis-mod-open' : 'majlis-Caret'} aria-hidden="true" />
      <div className="majlis-grow">
        <div className="majlis-Line">
          <span className="majlis-Name">{model.name}</span>
          <span className="majlis-grow" />
          {row.waiting.length > 0 && <Badge tone="warn">in review</Badge>}
        </div>
        <div className="majlis-Line majlis-quiet">
          {model.production !== null && <Dot tone="good" label="serves in production" />}
          <span className="majlis-clip">{production}</span>
          <span className="majlis-grow" />
          {model.tier && model.tier !== 'low' && <Badge tone={tierTone(model.tier)}>{model.tier} risk</Badge>}
        </div>
      </div>
    </div>
  );
}

/** What a version's row says beyond the list is asked for when the row is drawn. */
function Version({ row }: { row: IVersionRow }): JSX.Element {
  const { version } = row;
  const full = useResource(
    ['models', 'reviews'],
    signal => control.version(row.model, version.version, signal),
    row.key
  ).value;
  const checks = full ? checksInWords(full) : { text: ' ', tone: 'quiet' as const };
  const serving = row.serving.map(one => `${one.deployment.name} ${percent(one.deployment, one.revision)} %`);
  return (
    <div className="majlis-Version">
      <div className="majlis-Line">
        <span className="majlis-Name majlis-fixed">v{version.version}</span>
        <StateBadge version={version} />
        <span className="majlis-grow" />
        <span className="majlis-quiet majlis-fixed">{full && agoBriefly(full.registered_at)}</span>
      </div>
      <div className="majlis-Line">
        <Dot tone={checks.tone} label="checks" />
        <span className="majlis-clip">{checks.text}</span>
      </div>
      <div className="majlis-Line majlis-quiet">
        <span className="majlis-clip">
          {row.waiting
            ? `waits for ${whoDecides(row.waiting.required)}`
            : serving.length > 0
              ? `serves ${list(serving)}`
              : `by ${version.owner}${version.tier ? `, ${version.tier} risk` : ''}`}
        </span>
      </div>
    </div>
  );
}

function Note(props: { problem: Problem | null; retry: () => void }): JSX.Element {
  return props.problem ? (
    <button type="button" className="majlis-Link" onClick={props.retry}>
      {props.problem.detail} Try again
    </button>
  ) : (
    <span className="majlis-quiet">Loading versions…</span>
  );
}
