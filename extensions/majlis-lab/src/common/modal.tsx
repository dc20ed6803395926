import { ReactWidget } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';
import * as React from 'react';

import { ILab, LabContext } from './lab';

/**
 * A modal dialog, as the browser itself makes them: it holds the focus, Escape closes it, and what was typed stays
 * when the server refuses it. Resolves when it is closed.
 */
export function openModal(
  lab: ILab,
  title: string,
  content: (close: () => void) => JSX.Element
): Promise<void> {
  const before = document.activeElement as HTMLElement | null;
  const dialog = document.createElement('dialog');
  dialog.className = 'majlis-Modal';
  dialog.setAttribute('aria-label', title);
  dialog.dataset.lmSuppressShortcuts = 'true'; // what is typed here is not for the notebook behind it
  document.body.append(dialog);
  const close = () => dialog.close();
  const widget = ReactWidget.create(
    <LabContext.Provider value={lab}>
      <header className="majlis-Modal-head">
        <h2>{title}</h2>
        <button type="button" className="majlis-IconButton" aria-label="Close" onClick={close}>
          ×
        </button>
      </header>
      {content(close)}
    </LabContext.Provider>
  );
  Widget.attach(widget, dialog);
  dialog.showModal();
  return new Promise(resolve => {
    dialog.addEventListener('close', () => {
      widget.dispose();
      dialog.remove();
      before?.focus();
      resolve();
    });
  });
}
