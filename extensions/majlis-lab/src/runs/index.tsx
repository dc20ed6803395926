import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, ToolbarButton } from '@jupyterlab/apputils';
import { DocumentRegistry } from '@jupyterlab/docregistry';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookModel, INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { runIcon } from '@jupyterlab/ui-components';
import { IDisposable } from '@lumino/disposable';
import * as React from 'react';

import { IRun } from '../api/server';
import { CATEGORY, COMMANDS } from '../common/commands';
import { openModal } from '../common/modal';
import { IMajlis, majlisIcon } from '../panel';
import { NotebookDialog, PipelineDialog } from './dialog';
import { openAtFailure } from './mend';

/** Run notebooks and pipelines in processes of their own. */
export const runsPlugin: JupyterFrontEndPlugin<void> = {
  id: 'majlis-lab:runs',
  description: 'Run the open notebook, or a pipeline, in a process of its own.',
  autoStart: true,
  requires: [IMajlis, INotebookTracker],
  optional: [ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    majlis: IMajlis,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    launcher: ILauncher | null
  ) => {
    const { commands } = app;
    const started = (run: IRun) => majlis.show('runs', run.id);
    const scheduled = () => majlis.show('runs');

    commands.addCommand(COMMANDS.runNotebook, {
      label: 'Run Notebook as Pipeline…',
      caption: 'Run this notebook from its start, with the parameters that you give',
      icon: runIcon,
      isEnabled: args => args['path'] !== undefined || notebooks.currentWidget !== null,
      execute: async args => {
        const path = (args['path'] as string | undefined) ?? (await saved(notebooks.currentWidget));
        if (path) {
          await openModal(majlis.lab, 'Run notebook as pipeline', close => (
            <NotebookDialog
              path={path}
              profile={args['profile'] as string | undefined}
              close={close}
              started={started}
              scheduled={scheduled}
            />
          ));
        }
      }
    });
    commands.addCommand(COMMANDS.runPipeline, {
      label: args => (args['isLauncher'] ? 'Run a pipeline' : 'Run a Pipeline…'),
      caption: 'Run a folder of notebooks in order',
      icon: args => (args['isPalette'] ? undefined : majlisIcon),
      execute: args =>
        openModal(majlis.lab, 'Run a pipeline', close => (
          <PipelineDialog
            path={args['path'] as string | undefined}
            parameters={args['parameters'] as Record<string, unknown> | undefined}
            profile={args['profile'] as string | undefined}
            close={close}
            started={started}
            scheduled={scheduled}
          />
        ))
    });
    commands.addCommand(COMMANDS.mend, {
      label: 'Try Again from the Failed Cell',
      caption: 'Open a copy of the executed notebook, run it up to the cell that failed, and stop there',
      isVisible: args => args['executed'] !== undefined,
      execute: args => openAtFailure(majlis.lab, String(args['executed']), String(args['source']))
    });
    notebooks.currentChanged.connect(() => commands.notifyCommandChanged(COMMANDS.runNotebook));
    palette?.addItem({ command: COMMANDS.runNotebook, category: CATEGORY });
    palette?.addItem({ command: COMMANDS.runPipeline, category: CATEGORY, args: { isPalette: true } });
    launcher?.add({ command: COMMANDS.runPipeline, category: CATEGORY, rank: 3, args: { isLauncher: true } });
    app.docRegistry.addWidgetExtension('Notebook', new RunButton(app));
  }
};

/** What runs is the file, so it is saved first. */
async function saved(panel: NotebookPanel | null): Promise<string | undefined> {
  if (panel?.context.model.dirty) {
    await panel.context.save();
  }
  return panel?.context.path;
}

class RunButton implements DocumentRegistry.IWidgetExtension<NotebookPanel, INotebookModel> {
  constructor(private readonly _app: JupyterFrontEnd) {}

  createNew(panel: NotebookPanel): IDisposable {
    const button = new ToolbarButton({
      label: 'Run as pipeline',
      tooltip: 'Run this notebook from its start in a process of its own, with the parameters that you give',
      onClick: () => void this._app.commands.execute(COMMANDS.runNotebook)
    });
    panel.toolbar.insertBefore('kernelName', 'majlisRun', button);
    return button;
  }
}
