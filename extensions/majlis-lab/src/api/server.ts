/** What the server extension itself does: runs, pipelines, parameters. */
import { checked, requestAPI, send } from './request';

export type Kind = 'str' | 'int' | 'float' | 'bool' | 'list' | 'dict' | 'any';

export interface IField {
  name: string;
  type: Kind;
  optional: boolean;
  default: unknown;
  help: string;
}

export interface IForm {
  path: string;
  name: string;
  title: string;
  description: string;
  steps: { name: string; notebook: string }[];
  fields: IField[];
  problem?: { detail: string; remedy: string };
}

export type RunState =
  'pending' | 'running' | 'done' | 'reused' | 'failed' | 'skipped' | 'interrupted';

export interface IStep {
  name: string;
  notebook: string;
  executed: string;
  state: RunState;
  reason: string;
  cell: number;
  cells: number;
  started_at: string | null;
  usage: { seconds: number };
  failure: { error: string; message: string; cell: number | null; line: string } | null;
}

export interface IRun {
  id: string;
  pipeline: string;
  title: string;
  source: string | null;
  folder: string | null;
  parameters: Record<string, unknown>;
  state: RunState;
  reason: string;
  profile: string; // of the server that is there for this run alone; empty: it runs on the person's usual one
  started_at: string;
  finished_at: string | null;
  steps: IStep[];
}

/** A size of server that a run may have for itself. */
export interface IProfile {
  name: string;
  title: string;
  size: string;
  description: string;
}

export interface ISchedule {
  name: string;
  source: string | null;
  pipeline: string;
  cron: string | null;
  table: string | null;
  profile: string; // of the server that it needs; empty: the person's usual one
  paused: boolean;
  next: string | null;
  note: string; // what became of the last time
  last_run: string | null;
}

/** When a pipeline shall run by itself: at times, or when a table has a new version. */
export type When = { cron: string } | { table: string };

export interface ITrained {
  model_uri: string;
  run_id: string;
  run_name: string;
  experiment: string;
  logged_at: number; // milliseconds since 1970
  metrics: Record<string, number>;
  tables: { name: string; version: number }[];
  here: boolean; // the open notebook logged it
}

/** The notebook that is open, and its kernel: a renamed notebook is still known by that. */
export interface INotebook {
  path: string;
  kernel: string;
}

export type Source = { pipeline: string } | { notebook: string };

const post = { method: 'POST' } as const;

export const server = {
  runs: () => requestAPI<IRun[]>('runs'),
  start: (source: Source, parameters: Record<string, unknown>, profile: string) =>
    requestAPI<IRun>('runs', { ...post, body: { ...source, parameters, profile } }),
  profiles: () => requestAPI<IProfile[]>('profiles'),
  cancel: (id: string) => requestAPI<IRun>(`runs/${id}/cancel`, post),
  resume: (id: string) => requestAPI<IRun>(`runs/${id}/resume`, post),
  schedules: () => requestAPI<ISchedule[]>('schedules'),
  schedule: (name: string, source: string, when: When, parameters: Record<string, unknown>, profile: string) =>
    requestAPI<ISchedule>('schedules', { ...post, body: { name, source, parameters, profile, ...when } }),
  forget: (name: string) => send(`schedules/${encodeURIComponent(name)}`, { method: 'DELETE' }).then(checked),
  trained: (notebook: INotebook | null) =>
    requestAPI<ITrained[]>(`trained?${new URLSearchParams({ ...notebook }).toString()}`),
  pipelines: () => requestAPI<IForm[]>('pipelines'),
  parameters: (path: string) =>
    requestAPI<IForm>(`notebook/parameters?path=${encodeURIComponent(path)}`)
};
