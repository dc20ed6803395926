import * as React from 'react';

import { IBrief } from '../api/control';
import { Badge } from '../common/views';
import { stateTone } from './words';

/** How far a version is; a served one says where it stands instead, which it can only by having been released. */
export function StateBadge({ version }: { version: IBrief }): JSX.Element {
  return version.stage === 'Production' ? (
    <Badge tone="good" title={`${version.state}, ${version.stage}`}>
      in production
    </Badge>
  ) : (
    <Badge tone={stateTone(version.state)} title={`stage: ${version.stage}`}>
      {version.state}
    </Badge>
  );
}
