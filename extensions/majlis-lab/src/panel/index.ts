import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget } from '@jupyterlab/apputils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { ILauncher } from '@jupyterlab/launcher';
import { Token } from '@lumino/coreutils';
import { LabIcon, ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import svg from '../../style/majlis.svg';
import { Live } from '../api/live';
import { CATEGORY, COMMANDS } from '../common/commands';
import { ILab, LabContext } from '../common/lab';
import { VersionView } from '../models/version';
import { Panel, Tab } from './panel';

export const majlisIcon = new LabIcon({ name: 'majlis:icon', svgstr: svg });

/** The side panel, for the features that show something in it. */
export interface IMajlis {
  lab: ILab;
  show(tab: Tab, run?: string): void;
}

export const IMajlis = new Token<IMajlis>('majlis-lab:IMajlis', 'The side panel of Majlis.');

export const panelPlugin: JupyterFrontEndPlugin<IMajlis> = {
  id: 'majlis-lab:panel',
  description: 'The side panel: models, runs and reviews.',
  autoStart: true,
  provides: IMajlis,
  requires: [IDocumentManager],
  optional: [ICommandPalette, ILauncher, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    documents: IDocumentManager,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null
  ): IMajlis => {
    const lab: ILab = { app, documents, live: new Live() };
    const panel = new Panel(lab, majlisIcon);
    app.shell.add(panel, 'left', { rank: 350 });
    restorer?.add(panel, panel.id);
    const show = (tab: Tab, run?: string) => {
      panel.turnTo(tab, run);
      app.shell.activateById(panel.id);
    };

    app.commands.addCommand(COMMANDS.open, {
      label: 'Models',
      caption: 'Registered models, their versions, and where they serve',
      icon: majlisIcon,
      execute: () => show('models')
    });
    app.commands.addCommand(COMMANDS.reviews, {
      label: args => (args['isLauncher'] ? 'Review inbox' : 'Reviews'),
      caption: 'Versions that wait for a decision',
      icon: majlisIcon,
      execute: () => show('reviews')
    });
    app.commands.addCommand(COMMANDS.version, {
      label: args => `Open ${String(args['model'] ?? 'a model')} version ${String(args['version'] ?? '')}`,
      isVisible: args => args['model'] !== undefined,
      execute: args => openVersion(lab, String(args['model']), Number(args['version']))
    });
    palette?.addItem({ command: COMMANDS.open, category: CATEGORY });
    palette?.addItem({ command: COMMANDS.reviews, category: CATEGORY });
    launcher?.add({ command: COMMANDS.open, category: CATEGORY, rank: 1 });
    launcher?.add({ command: COMMANDS.reviews, category: CATEGORY, rank: 2, args: { isLauncher: true } });
    return { lab, show };
  }
};

/** A version in a tab of the main area; the one that is open already, where there is one. */
function openVersion(lab: ILab, model: string, version: number): void {
  const id = `majlis-version-${model}-${version}`;
  const open = [...lab.app.shell.widgets('main')].find(widget => widget.id === id);
  if (!open) {
    const view = React.createElement(VersionView, { model, version });
    const content = ReactWidget.create(React.createElement(LabContext.Provider, { value: lab }, view));
    content.addClass('majlis-Page');
    const widget = new MainAreaWidget({ content });
    widget.id = id;
    widget.title.label = `${model} v${version}`;
    widget.title.icon = majlisIcon;
    const following = lab.live.follow();
    widget.disposed.connect(() => following.dispose());
    lab.app.shell.add(widget, 'main');
  }
  lab.app.shell.activateById(id);
}
