import { PageConfig } from '@jupyterlab/coreutils';

/** The page where people read and decide about a version; empty outside of a hub. Nothing is decided from here. */
export function decisionPage(model: string, version: number): string {
  const hub = PageConfig.getOption('hubPrefix'); // such as /hub/
  const pages = PageConfig.getOption('hubHost') + hub.replace(/hub\/?$/, 'services/majlis/');
  return hub && `${pages}models/${encodeURIComponent(model)}/${version}`;
}
