/** The control plane's API, through the proxy of the server extension. */
import { listed, requestAPI } from './request';

export type Tier = 'low' | 'medium' | 'high';

export interface IModel {
  name: string;
  versions: number;
  latest: number;
  production: number | null;
  tier: Tier | null;
  updated: string;
}

export interface ICheck {
  name: string;
  verdict: 'passed' | 'failed' | 'error' | 'skipped';
  value: unknown;
  threshold: unknown;
  reason?: string;
  seconds: number;
}

export interface IReview {
  principal: string;
  chair: string;
  decision: string;
  reason: string;
  at: string;
}

export interface IVersion {
  model: string;
  version: number;
  owner: string;
  state: string;
  stage: string;
  tier: Tier | null;
  tier_reasons: string[];
  run_id: string | null;
  evaluation: Record<string, unknown>;
  facts: Record<string, unknown>;
  lineage: Record<string, unknown>;
  checks: ICheck[];
  reviews: IReview[];
  required: string[];
  release: string | null;
  registered_at: string;
}

/** A version as a model lists it. */
export type IBrief = Pick<IVersion, 'version' | 'state' | 'stage' | 'tier' | 'owner'>;

export interface IRevision {
  name: string;
  release: string;
  version: number;
  weight: number;
  status: string;
}

export interface IDeployment {
  name: string;
  model: string;
  url: string;
  revisions: IRevision[];
  ready: boolean;
  created_by: string;
}

/** How traffic gets to another release. */
export type Strategy = 'at-once' | 'blue-green' | 'canary' | 'a/b' | 'shadow';

/** What a deployment would change and cost. */
export interface IPreview {
  serving: { version: number; percent: number }[];
  same: boolean;
  steps: number[]; // percent
  seconds: number;
  requests: number;
  price: { currency: string; size_bytes: number; loaded_month: number; row_ms: number | null; million: number | null };
  budget_left: number;
}

export interface IWaiting {
  model: string;
  version: number;
  tier: Tier | null;
  owner: string;
  required: string[];
  due: string | null;
  overdue: boolean;
}

export interface IRegistration {
  model_uri: string;
  run_id: string | null;
  evaluation: Record<string, unknown>;
  facts: Record<string, unknown>;
  claimed_metrics: Record<string, number>;
  lineage: Record<string, unknown>;
}

const part = encodeURIComponent;

export const control = {
  models: (signal?: AbortSignal) => listed<IModel>('api/models', within(signal)),
  versions: (model: string, signal?: AbortSignal) =>
    listed<IBrief>(`api/models/${part(model)}/versions`, within(signal)),
  version: (model: string, version: number, signal?: AbortSignal) =>
    requestAPI<IVersion>(`api/models/${part(model)}/versions/${version}`, within(signal)),
  register: (model: string, body: IRegistration) =>
    requestAPI<IVersion>(`api/models/${part(model)}/versions`, { method: 'POST', body }),
  reviews: (signal?: AbortSignal) => listed<IWaiting>('api/reviews', within(signal)),
  deployments: (signal?: AbortSignal) => listed<IDeployment>('api/deployments', within(signal)),
  preview: (
    name: string,
    model: string,
    version: number,
    strategy: Strategy,
    steps: readonly number[],
    signal?: AbortSignal
  ) => {
    const what = [`model=${part(model)}`, `version=${version}`, `strategy=${part(strategy)}`];
    const asked = [...what, ...steps.map(step => `steps=${step}`)].join('&');
    return requestAPI<IPreview>(`api/deployments/${part(name)}/preview?${asked}`, within(signal));
  },
  deploy: (name: string, body: Record<string, unknown>) =>
    requestAPI<IDeployment>(`api/deployments/${part(name)}`, { method: 'PUT', body }),
  rollback: (name: string, reason: string) =>
    requestAPI<IDeployment>(`api/deployments/${part(name)}/rollback`, { method: 'POST', body: { reason } })
};

function within(signal?: AbortSignal): { signal?: AbortSignal } {
  return signal ? { signal } : {};
}
