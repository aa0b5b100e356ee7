import { useCallback, useEffect, useRef, useState } from "react";

export interface Loaded<T> {
  /** The last response; it is kept while the next is loading, so that the page does not jump. */
  value: T | undefined;
  error: Error | undefined;
  loading: boolean;
  reload: () => void;
  set: (value: T) => void;
}

/** Cached responses for returning to a page, by key: only the last few, and nothing personal. */
const kept = new Map<string, unknown>();
const MOST_KEPT = 20;

function keep(key: string, value: unknown): void {
  kept.delete(key);
  kept.set(key, value);
  for (const oldest of kept.keys()) {
    if (kept.size <= MOST_KEPT) break;
    kept.delete(oldest);
  }
}

/** Call `load` now, whenever `key` changes and on `reload()`; an outdated response is dropped.
 * With `shared`, public data is shown from the cache at once while it is requested again. */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>, { shared = false } = {}): Loaded<T> {
  const [state, setState] = useState<{ key: string; value?: T; error?: Error; loading: boolean }>(() => ({
    key,
    loading: true,
    ...(shared && kept.has(key) && { value: kept.get(key) as T }),
  }));
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;

  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, key, loading: true, ...(shared && kept.has(key) && { value: kept.get(key) as T }) }));
    latest.current(abort.signal).then(
      (value) => {
        if (abort.signal.aborted) return;
        if (shared) keep(key, value);
        setState({ key, value, loading: false });
      },
      (error: Error) => !abort.signal.aborted && setState((before) => ({ ...before, key, error, loading: false })),
    );
    return () => abort.abort();
  }, [key, turn, shared]);

  return {
    value: state.value,
    error: state.error,
    loading: state.loading,
    reload: useCallback(() => setTurn((before) => before + 1), []),
    set: useCallback((value: T) => setState((before) => ({ key: before.key, value, loading: false })), []),
  };
}
