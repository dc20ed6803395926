import { PageConfig } from '@jupyterlab/coreutils';

/** Where people decide on a version; empty outside of a hub. Decisions are never made from here. */
export function decisionPage(model: string, version: number): string {
  const pages = servicePages();
  return pages && `${pages}reviews/${encodeURIComponent(model)}/${version}`;
}

/** The workbench's own pages; empty outside of a hub. */
export function servicePages(): string {
  const prefix = PageConfig.getOption('hubPrefix'); // such as /hub/
  return prefix && PageConfig.getOption('hubHost') + prefix.replace(/hub\/?$/, 'services/majlis/');
}
