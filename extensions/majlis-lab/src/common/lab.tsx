import { JupyterFrontEnd } from '@jupyterlab/application';
import { IDocumentManager } from '@jupyterlab/docmanager';
import * as React from 'react';

import { Live } from '../api/live';

/** What every view needs of JupyterLab. */
export interface ILab {
  app: JupyterFrontEnd;
  documents: IDocumentManager;
  live: Live;
}

export const LabContext = React.createContext<ILab | null>(null);

export function useLab(): ILab {
  const lab = React.useContext(LabContext);
  if (!lab) {
    throw new Error('a view of Majlis stands outside of LabContext');
  }
  return lab;
}

/** Open a notebook beside the one a person looks at. */
export function openBeside(lab: ILab, path: string): void {
  const current = lab.app.shell.currentWidget;
  const options = current ? { mode: 'split-right' as const, ref: current.id } : {};
  lab.documents.openOrReveal(path, 'default', undefined, options);
}
