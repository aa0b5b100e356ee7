import { useCallback, useEffect, useRef, useState } from "react";

export interface Loaded<T> {
  /** The last answer; it stays while the next is on its way, so that nothing jumps. */
  value: T | undefined;
  error: Error | undefined;
  loading: boolean;
  reload: () => void;
  set: (value: T) => void;
}

/** Call `load` now, whenever `key` changes and on `reload()`; an answer that is overtaken is dropped. */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<{ key: string; value?: T; error?: Error; loading: boolean }>({ key, loading: true });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;

  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, key, loading: true }));
    latest.current(abort.signal).then(
      (value) => !abort.signal.aborted && setState({ key, value, loading: false }),
      (error: Error) => !abort.signal.aborted && setState((before) => ({ ...before, key, error, loading: false })),
    );
    return () => abort.abort();
  }, [key, turn]);

  return {
    value: state.value,
    error: state.error,
    loading: state.loading,
    reload: useCallback(() => setTurn((before) => before + 1), []),
    set: useCallback((value: T) => setState((before) => ({ key: before.key, value, loading: false })), []),
  };
}
