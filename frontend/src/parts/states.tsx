/** What a page shows without content: loading, empty or failed. */
import { type ReactNode } from "react";

import { NoAnswerError, ProblemError } from "../api/client";
import { text } from "../text";

export function wordsFor(error: Error): string {
  if (error instanceof NoAnswerError) return navigator.onLine ? text.errors.noAnswer : text.errors.offline;
  if (error instanceof ProblemError && error.status === 429) return text.errors.wait(error.retryAfter ?? 60);
  return error.message || text.errors.crash;
}

export function Failure({ error, retry }: { error: Error; retry?: () => void }) {
  return (
    <div className="note bad" role="alert">
      <div>
        <strong>{text.errors.title}</strong>
        <p>{wordsFor(error)}</p>
      </div>
      {retry && (
        <button type="button" className="button small" onClick={retry}>
          {text.retry}
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children, action }: { title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div className="empty">
      <svg viewBox="0 0 96 64" width="96" height="64" aria-hidden="true">
        <path d="M8 48h80M20 48V22h24v26M52 48V30h24v18M26 22c0-8 12-8 12 0" fill="none" stroke="currentColor" strokeWidth="2" />
      </svg>
      <h2>{title}</h2>
      {children && <p>{children}</p>}
      {action}
    </div>
  );
}

/** Placeholders for rows, with the same height. */
export function Skeleton({ rows, className = "skeleton-row" }: { rows: number; className?: string }) {
  return (
    <div role="status" aria-label={text.loading} className="skeletons">
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} className={`skeleton ${className}`} />
      ))}
    </div>
  );
}

/** The placeholder for a page that is still loading. */
export function Blank() {
  return (
    <main id="main" className="page">
      <Skeleton rows={4} />
    </main>
  );
}
