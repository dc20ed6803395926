import { PathExt } from '@jupyterlab/coreutils';
import { NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { ILab } from '../common/lab';

/**
 * Take up a notebook at the cell that failed.
 *
 * What was executed is a record, and stays as it is: a copy of it is opened, beside the source so that what it imports
 * is found. Everything above the failed cell runs again, which brings back the state that it failed in, with the
 * parameters of that run; then the failed cell is the person's to change and run.
 */
export async function openAtFailure(lab: ILab, executed: string, source: string): Promise<void> {
  const copied = await lab.documents.copy(executed, PathExt.dirname(source));
  const current = lab.app.shell.currentWidget;
  const options = current ? { mode: 'split-right' as const, ref: current.id } : {};
  const panel = lab.documents.openOrReveal(copied.path, 'Notebook', undefined, options) as NotebookPanel | undefined;
  if (!panel) {
    return;
  }
  await panel.revealed;
  await panel.sessionContext.ready;
  const { content, sessionContext } = panel;
  const failed = content.widgets.findIndex(cell => {
    const noted = cell.model.sharedModel.getMetadata('papermill') as { exception?: boolean } | undefined;
    return noted?.exception === true;
  });
  if (failed < 0) {
    return;
  }
  content.activeCellIndex = failed;
  await NotebookActions.runAllAbove(content, sessionContext);
  content.activeCellIndex = failed;
  await content.scrollToItem(failed, 'smart');
}
