import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import * as React from 'react';

import { IDeployment } from '../api/control';
import { CATEGORY, COMMANDS } from '../common/commands';
import { openModal } from '../common/modal';
import { list } from '../common/words';
import { IMajlis } from '../panel';
import { DeployDialog } from './deploy';
import { RollbackDialog } from './rollback';
import { shares } from './words';

/** Serve released versions, and go back. */
export const deploymentsPlugin: JupyterFrontEndPlugin<void> = {
  id: 'majlis-lab:deployments',
  description: 'Deploy released versions, and roll back.',
  autoStart: true,
  requires: [IMajlis],
  optional: [ICommandPalette],
  activate: (app: JupyterFrontEnd, majlis: IMajlis, palette: ICommandPalette | null) => {
    const done = (deployment: IDeployment) => {
      Notification.success(`${deployment.name} serves ${list(shares(deployment))}.`, { autoClose: 5000 });
    };
    app.commands.addCommand(COMMANDS.deploy, {
      label: 'Deploy a Version…',
      caption: 'Serve a released version',
      execute: args =>
        openModal(majlis.lab, 'Deploy', close => (
          <DeployDialog
            model={args['model'] as string | undefined}
            version={args['version'] as number | undefined}
            close={close}
            done={done}
          />
        ))
    });
    app.commands.addCommand(COMMANDS.rollback, {
      label: 'Roll Back a Deployment…',
      caption: 'Serve again what was served before',
      execute: args =>
        openModal(majlis.lab, 'Roll back', close => (
          <RollbackDialog name={args['name'] as string | undefined} close={close} done={done} />
        ))
    });
    palette?.addItem({ command: COMMANDS.deploy, category: CATEGORY });
    palette?.addItem({ command: COMMANDS.rollback, category: CATEGORY });
  }
};
