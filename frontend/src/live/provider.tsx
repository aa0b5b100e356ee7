import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";

import { api, ask } from "../api/client";
import { useSession } from "../session";
import { hearOthers } from "../tabs";
import { LiveConnection, type State } from "./connection";
import { type News, transports } from "./transports";

interface Live {
  state: State;
  /** How many notifications are unread. */
  unread: number;
  /** Count them again, because some were read here. */
  recount: () => void;
  /** Call `heard` for all events, and `opened` whenever some may have been missed; returns a function that ends this. */
  listen: (heard: (news: News) => void, opened: () => void) => () => void;
}

const Context = createContext<Live>({ state: "off", unread: 0, recount: () => undefined, listen: () => () => undefined });

/** The one live connection of the page, for as long as a user is signed in. */
export function LiveProvider({ children }: { children: ReactNode }) {
  const reader = useSession().user?.id;
  const [state, setState] = useState<State>("off");
  const [unread, setUnread] = useState(0);
  const listeners = useRef(new Set<{ heard: (news: News) => void; opened: () => void }>());

  const recount = useCallback(() => {
    ask(api.GET("/api/notifications/", { params: { query: { page_size: 1 } } })).then(
      ({ count }) => setUnread(count),
      () => undefined, // The connection says that the shop is away; the count stays as it was.
    );
  }, []);
  const listen = useCallback((heard: (news: News) => void, opened: () => void) => {
    const listener = { heard, opened };
    listeners.current.add(listener);
    return () => void listeners.current.delete(listener);
  }, []);

  useEffect(() => {
    if (reader === undefined) return undefined;
    const all = listeners.current;
    const connection = new LiveConnection<News>(transports, {
      changed: setState,
      heard: (news) => {
        if (news.id !== null) recount();
        for (const listener of all) listener.heard(news);
      },
      opened: () => {
        recount();
        for (const listener of all) listener.opened();
      },
    });
    const quiet = hearOthers("read", () => {
      recount();
      for (const listener of all) listener.opened();
    });
    const goOn = () => connection.network(true);
    const pause = () => connection.network(false);
    addEventListener("online", goOn);
    addEventListener("offline", pause);
    connection.start();
    return () => {
      removeEventListener("online", goOn);
      removeEventListener("offline", pause);
      quiet();
      connection.stop();
      setUnread(0);
    };
  }, [reader, recount]);

  const value = useMemo(() => ({ state, unread, recount, listen }), [state, unread, recount, listen]);
  return <Context value={value}>{children}</Context>;
}

export const useLive = () => useContext(Context);
