import { PageConfig } from '@jupyterlab/coreutils';

/** Where people decide on a version; empty where the workbench has no such page. Nothing is decided from here. */
export function decisionPage(model: string, version: number): string {
  const pages = PageConfig.getOption('majlisDecisions');
  return pages && `${pages.replace(/\/?$/, '/')}reviews/${encodeURIComponent(model)}/${version}`;
}
