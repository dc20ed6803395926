/** The tree of models as rows: pure, so that a thousand models cost a thousand small objects and no elements. */
import { IBrief, IDeployment, IModel, IRevision, IWaiting } from '../api/control';
import { IRow } from '../common/virtual';

export type Show = 'all' | 'production' | 'review' | 'high' | 'medium' | 'low';

export interface IModelRow extends IRow {
  kind: 'model';
  model: IModel;
  open: boolean;
  waiting: IWaiting[];
  deployments: IDeployment[];
}

export interface IVersionRow extends IRow {
  kind: 'version';
  model: string;
  version: IBrief;
  waiting: IWaiting | undefined;
  serving: { deployment: IDeployment; revision: IRevision }[];
}

export interface INoteRow extends IRow {
  kind: 'note';
  model: string;
}

export type Row = IModelRow | IVersionRow | INoteRow;

export const HEIGHTS = { model: 52, version: 76, note: 44 };

/** The models that a person asked for. */
export function chosen(
  models: readonly IModel[],
  waiting: readonly IWaiting[],
  search: string,
  show: Show
): IModel[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const inReview = new Set(waiting.map(one => one.model));
  return models.filter(
    model =>
      words.every(word => model.name.toLowerCase().includes(word)) &&
      (show === 'all' ||
        (show === 'production' && model.production !== null) ||
        (show === 'review' && inReview.has(model.name)) ||
        show === model.tier)
  );
}

/** One row for each model, and below an open one its versions, the newest first. */
export function rowsOf(
  models: readonly IModel[],
  versions: ReadonlyMap<string, readonly IBrief[]>,
  open: ReadonlySet<string>,
  waiting: readonly IWaiting[],
  deployments: readonly IDeployment[]
): Row[] {
  const waitingOf = grouped(waiting);
  const deploymentsOf = grouped(deployments);
  return models.flatMap(model => {
    const isOpen = open.has(model.name);
    const ours = deploymentsOf.get(model.name) ?? [];
    const theirs = waitingOf.get(model.name) ?? [];
    const head: IModelRow = {
      kind: 'model',
      key: model.name,
      height: HEIGHTS.model,
      model,
      open: isOpen,
      waiting: theirs,
      deployments: ours
    };
    if (!isOpen) {
      return [head];
    }
    const found = versions.get(model.name);
    const below: Row[] = found
      ? [...found].sort((a, b) => b.version - a.version).map(version => versionRow(model.name, version, theirs, ours))
      : [{ kind: 'note', key: `${model.name}/note`, height: HEIGHTS.note, model: model.name }];
    return [head, ...below];
  });
}

function versionRow(
  model: string,
  version: IBrief,
  waiting: IWaiting[],
  deployments: IDeployment[]
): IVersionRow {
  return {
    kind: 'version',
    key: `${model}/${version.version}`,
    height: HEIGHTS.version,
    model,
    version,
    waiting: waiting.find(one => one.version === version.version),
    serving: deployments.flatMap(deployment =>
      deployment.revisions
        .filter(revision => revision.version === version.version && revision.weight > 0)
        .map(revision => ({ deployment, revision }))
    )
  };
}

function grouped<T extends { model: string }>(items: readonly T[]): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const item of items) {
    found.set(item.model, [...(found.get(item.model) ?? []), item]);
  }
  return found;
}
