import { IDeployment, IRevision } from '../api/control';

/** A revision's part of the traffic, in percent. */
export function percent(deployment: IDeployment, revision: IRevision): number {
  const all = deployment.revisions.reduce((sum, one) => sum + one.weight, 0);
  return all > 0 ? Math.round((100 * revision.weight) / all) : 0;
}

/** "v3 95 %", "v4 5 %": the revisions that have traffic. */
export function shares(deployment: IDeployment): string[] {
  const live = deployment.revisions.filter(revision => revision.weight > 0);
  return live.map(revision => `v${revision.version} ${percent(deployment, revision)} %`);
}
