import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, ToolbarButton } from '@jupyterlab/apputils';
import { DocumentRegistry } from '@jupyterlab/docregistry';
import { INotebookModel, INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IDisposable } from '@lumino/disposable';
import * as React from 'react';

import { IVersion } from '../api/control';
import { INotebook } from '../api/server';
import { CATEGORY, COMMANDS } from '../common/commands';
import { openModal } from '../common/modal';
import { IMajlis } from '../panel';
import { RegisterDialog } from './dialog';

/** Register what a notebook trained. */
export const registerPlugin: JupyterFrontEndPlugin<void> = {
  id: 'majlis-lab:register',
  description: 'Register a trained model from the notebook that trained it.',
  autoStart: true,
  requires: [IMajlis, INotebookTracker],
  optional: [ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    majlis: IMajlis,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null
  ) => {
    const done = (version: IVersion) => {
      majlis.show('models');
      void app.commands.execute(COMMANDS.version, { model: version.model, version: version.version });
    };
    app.commands.addCommand(COMMANDS.register, {
      label: 'Register a Trained Model…',
      caption: 'Make a trained model a version of a registered model; its checks start at once',
      execute: () => {
        const notebook = shown(notebooks.currentWidget);
        return openModal(majlis.lab, 'Register', close => (
          <RegisterDialog notebook={notebook} close={close} done={done} />
        ));
      }
    });
    palette?.addItem({ command: COMMANDS.register, category: CATEGORY });
    app.docRegistry.addWidgetExtension('Notebook', new RegisterButton(app));
  }
};

/** The notebook that a person has in front of them. */
function shown(panel: NotebookPanel | null): INotebook | null {
  return panel && { path: panel.context.path, kernel: panel.sessionContext.session?.kernel?.id ?? '' };
}

class RegisterButton implements DocumentRegistry.IWidgetExtension<NotebookPanel, INotebookModel> {
  constructor(private readonly _app: JupyterFrontEnd) {}

  createNew(panel: NotebookPanel): IDisposable {
    const button = new ToolbarButton({
      label: 'Register',
      tooltip: 'Register a trained model; its checks start at once',
      onClick: () => void this._app.commands.execute(COMMANDS.register)
    });
    // Which of the two buttons comes first must not depend on which feature was ready first.
    const place = [...panel.toolbar.names()].includes('majlisRun') ? 'majlisRun' : 'kernelName';
    panel.toolbar.insertBefore(place, 'majlisRegister', button);
    return button;
  }
}
