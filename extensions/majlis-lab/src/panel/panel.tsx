import { LabIcon, ReactWidget } from '@jupyterlab/ui-components';
import { IDisposable } from '@lumino/disposable';
import { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import * as React from 'react';

import { control } from '../api/control';
import { ILab, LabContext } from '../common/lab';
import { useLiveProblem, useResource } from '../common/use';
import { ModelsView } from '../models/panel';
import { ReviewsView } from '../reviews/view';
import { sentence } from '../common/words';
import { RunsView } from '../runs/view';

export const TABS = ['models', 'runs', 'reviews'] as const;
export type Tab = (typeof TABS)[number];
const LABELS: Record<Tab, string> = { models: 'Models', runs: 'Runs', reviews: 'Reviews' };

/** The side panel: models, runs and reviews. It follows the server only while it can be seen. */
export class Panel extends ReactWidget {
  private readonly _moved = new Signal<Panel, void>(this);
  private _tab: Tab = 'models';
  private _run: string | undefined;
  private _following: IDisposable | null = null;

  constructor(
    private readonly _lab: ILab,
    icon: LabIcon
  ) {
    super();
    this.id = 'majlis-panel';
    this.addClass('majlis-Panel');
    this.title.icon = icon;
    this.title.caption = 'Majlis: models, runs and reviews';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Majlis');
  }

  get moved(): ISignal<Panel, void> {
    return this._moved;
  }

  get place(): { tab: Tab; run: string | undefined } {
    return { tab: this._tab, run: this._run };
  }

  /** Turn to a tab, and open a run there. */
  turnTo(tab: Tab, run?: string): void {
    this._tab = tab;
    this._run = run ?? this._run;
    this._moved.emit();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._following ??= this._lab.live.follow();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this._following ??= this._lab.live.follow();
    }
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._following?.dispose();
    this._following = null;
  }

  protected override render(): JSX.Element {
    return (
      <LabContext.Provider value={this._lab}>
        <PanelView panel={this} />
      </LabContext.Provider>
    );
  }
}

function PanelView({ panel }: { panel: Panel }): JSX.Element {
  const { tab, run } = usePlace(panel);
  const problem = useLiveProblem();
  const reviews = useResource(['reviews'], control.reviews);
  const waiting = reviews.value?.length ?? 0;
  const onKeyDown = (event: React.KeyboardEvent) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
    if (step !== 0 && next) {
      panel.turnTo(next);
      document.getElementById(`majlis-tab-${next}`)?.focus();
    }
  };
  return (
    <>
      <div className="majlis-Tabs" role="tablist" aria-label="Majlis" onKeyDown={onKeyDown}>
        {TABS.map(one => (
          <button
            key={one}
            type="button"
            role="tab"
            id={`majlis-tab-${one}`}
            aria-selected={one === tab}
            aria-controls="majlis-tabpanel"
            tabIndex={one === tab ? 0 : -1}
            onClick={() => panel.turnTo(one)}
          >
            {LABELS[one]}
            {one === 'reviews' && waiting > 0 && (
              <span className="majlis-Count" aria-label={`${waiting} waiting`}>
                {waiting}
              </span>
            )}
          </button>
        ))}
      </div>
      {problem && (
        <div className="majlis-Offline" role="status" title={problem.remedy}>
          {sentence(problem.detail)} What you see may be old; it is tried again by itself.
        </div>
      )}
      <div id="majlis-tabpanel" className="majlis-TabPanel" role="tabpanel" aria-labelledby={`majlis-tab-${tab}`}>
        {tab === 'models' ? <ModelsView /> : tab === 'runs' ? <RunsView shown={run} /> : <ReviewsView />}
      </div>
    </>
  );
}

function usePlace(panel: Panel): { tab: Tab; run: string | undefined } {
  const [place, setPlace] = React.useState(panel.place);
  React.useEffect(() => {
    const look = () => setPlace(panel.place);
    panel.moved.connect(look);
    look();
    return () => {
      panel.moved.disconnect(look);
    };
  }, [panel]);
  return place;
}
