import * as React from 'react';

export interface IRow {
  key: string;
  height: number; // in pixels; known beforehand, so that only what is seen is drawn
}

const BEYOND = 300; // pixels drawn above and below what is seen

/** Where the rows begin; one longer than the rows. */
export function offsets(rows: readonly IRow[]): number[] {
  const found = [0];
  for (const row of rows) {
    found.push((found[found.length - 1] ?? 0) + row.height);
  }
  return found;
}

/** The first row that ends below `y`. */
export function rowAt(starts: readonly number[], y: number): number {
  let low = 0;
  let high = Math.max(0, starts.length - 2);
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((starts[middle + 1] ?? 0) > y) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/** A tree of any length of which only the part in view is in the page; arrow keys move through all of it. */
export function VirtualTree<R extends IRow>(props: {
  label: string;
  rows: readonly R[];
  render: (row: R, active: boolean) => JSX.Element;
  attributes: (row: R) => React.HTMLAttributes<HTMLElement>;
  onKey: (row: R, key: string) => void;
}): JSX.Element {
  const { rows } = props;
  const view = React.useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = React.useState({ top: 0, height: 600 });
  const [activeKey, setActiveKey] = React.useState('');
  const id = React.useId();
  const starts = React.useMemo(() => offsets(rows), [rows]);
  const active = Math.max(0, rows.findIndex(row => row.key === activeKey));

  React.useLayoutEffect(() => {
    const node = view.current;
    if (!node) {
      return;
    }
    const look = () => setScroll({ top: node.scrollTop, height: node.clientHeight });
    const watch = new ResizeObserver(look);
    watch.observe(node);
    node.addEventListener('scroll', look, { passive: true });
    look();
    return () => {
      watch.disconnect();
      node.removeEventListener('scroll', look);
    };
  }, []);

  const go = (place: number) => {
    const index = Math.min(rows.length - 1, Math.max(0, place));
    const row = rows[index];
    const node = view.current;
    if (!row || !node) {
      return;
    }
    setActiveKey(row.key);
    const top = starts[index] ?? 0;
    if (top < node.scrollTop) {
      node.scrollTop = top;
    } else if (top + row.height > node.scrollTop + node.clientHeight) {
      node.scrollTop = top + row.height - node.clientHeight;
    }
  };

  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.target !== view.current) {
      return; // a button in a row has the focus
    }
    const page = Math.max(1, Math.floor(scroll.height / (rows[active]?.height ?? 40)));
    const moves: Record<string, number> = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: rows.length - 1
    };
    const place = moves[event.key];
    const row = rows[active];
    if (place !== undefined) {
      go(place);
    } else if (row && ['Enter', ' ', 'ArrowLeft', 'ArrowRight'].includes(event.key)) {
      props.onKey(row, event.key);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const first = rowAt(starts, scroll.top - BEYOND);
  const last = Math.min(rows.length - 1, rowAt(starts, scroll.top + scroll.height + BEYOND));
  const seen = rows.slice(first, last + 1);
  return (
    <div
      ref={view}
      className="majlis-Tree"
      role="tree"
      aria-label={props.label}
      aria-activedescendant={rows[active] ? `${id}${rows[active].key}` : undefined}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <div style={{ height: starts[starts.length - 1] }} role="presentation">
        {seen.map((row, place) => (
          <div
            key={row.key}
            id={`${id}${row.key}`}
            role="treeitem"
            className={row === rows[active] ? 'majlis-Row majlis-mod-active' : 'majlis-Row'}
            style={{ top: starts[first + place], height: row.height }}
            onMouseDown={() => setActiveKey(row.key)}
            {...props.attributes(row)}
          >
            {props.render(row, row === rows[active])}
          </div>
        ))}
      </div>
    </div>
  );
}
