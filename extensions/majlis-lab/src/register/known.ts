/** What is known of a model before anybody is asked; pure. */
import { IRegistration, IVersion } from '../api/control';
import { ITrained } from '../api/server';

export interface IAsked {
  name: string;
  table: string;
  tableVersion: string;
  target: string;
  where: string;
  purpose: string;
  personalData: boolean;
  affected: string;
  autonomy: string;
}

const CLAIMED = 'test/'; // metrics of the held-out rows: what the author claims
const METRIC = 'pr_auc';

/** The form as it opens: from the run, and from the version that was registered before. */
export function known(trained: ITrained, before: IVersion | undefined): IAsked {
  const table = trained.tables[0];
  const evaluation = before?.evaluation ?? {};
  const facts = before?.facts ?? {};
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return {
    name: before?.model ?? trained.experiment.toLowerCase().replace(/[^a-z0-9_-]+/g, '-'),
    table: table?.name ?? text(evaluation['table']),
    tableVersion: table ? String(table.version) : '',
    target: text(evaluation['target']),
    where: evaluation['where'] ? JSON.stringify(evaluation['where']) : '',
    purpose: text(facts['purpose']),
    personalData: facts['personal_data'] === true,
    affected: text(facts['affected_people']),
    autonomy: text(facts['autonomy'])
  };
}

/** What is sent; `before` lends what the form does not ask for. */
export function registration(
  trained: ITrained,
  asked: IAsked,
  before: IVersion | undefined
): IRegistration {
  const evaluation: Record<string, unknown> = {
    table: asked.table,
    version: Number(asked.tableVersion),
    target: asked.target
  };
  if (asked.where.trim()) {
    evaluation['where'] = JSON.parse(asked.where);
  }
  if (before?.evaluation['features']) {
    evaluation['features'] = before.evaluation['features'];
  }
  return {
    model_uri: trained.model_uri,
    run_id: trained.run_id,
    evaluation,
    facts: {
      purpose: asked.purpose,
      personal_data: asked.personalData,
      affected_people: asked.affected,
      autonomy: asked.autonomy
    },
    claimed_metrics: claims(trained),
    lineage: { tables: trained.tables, feature_views: before?.lineage['feature_views'] ?? [] }
  };
}

/** What the author claims: the quality on held-out rows, where the run has it. */
export function claims(trained: ITrained): Record<string, number> {
  const value = trained.metrics[CLAIMED + METRIC] ?? trained.metrics[METRIC];
  return value === undefined ? {} : { [METRIC]: value };
}

/** What is wrong with the condition on rows; empty when it is fine. */
export function faultOfWhere(where: string): string {
  if (!where.trim()) {
    return '';
  }
  try {
    const value: unknown = JSON.parse(where);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? ''
      : 'Give column and value, such as {"split": "test"}.';
  } catch {
    return 'Write it as JSON, such as {"split": "test"}.';
  }
}
