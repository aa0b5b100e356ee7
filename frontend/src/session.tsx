import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";

import { api, ask, NOT_SIGNED_IN, type Session } from "./api/client";
import { turnOff } from "./push";
import { hearOthers, tellOthers } from "./tabs";

type User = Session["user"];

interface Known {
  /** Undefined until the shop has responded. */
  user: User | undefined;
  flowerUrl: string | null;
  /** The error, if the shop has not responded. */
  error: Error | undefined;
  /** Ask the shop again who is signed in, and return its response; undefined if there is none. */
  ask: () => Promise<Session | undefined>;
  signIn: (username: string, password: string) => Promise<void>;
  signOut: () => Promise<void>;
}

const Context = createContext<Known | null>(null);

export function SessionProvider({ children }: { children: ReactNode }) {
  const [session, setSession] = useState<Session>();
  const [error, setError] = useState<Error>();

  const known = useCallback(async () => {
    try {
      const answer = await ask(api.GET("/api/session/"));
      // The same user stays the same object, so that nothing that depends on it restarts.
      setSession((before) => (JSON.stringify(before) === JSON.stringify(answer) ? before : answer));
      setError(undefined);
      return answer;
    } catch (reason) {
      setError(reason as Error);
      return undefined;
    }
  }, []);
  const signIn = useCallback(async (username: string, password: string) => {
    setSession(await ask(api.POST("/api/session/", { body: { username, password } })));
    tellOthers("session");
  }, []);
  const signOut = useCallback(async () => {
    // The next user of this browser must not see this user's notifications.
    await turnOff().catch(() => undefined);
    await ask(api.DELETE("/api/session/"));
    setSession({ user: null, flower_url: null });
    tellOthers("session");
  }, []);
  useEffect(() => void known(), [known]);
  useEffect(() => hearOthers("session", () => void known()), [known]);
  const isSignedIn = Boolean(session?.user);
  useEffect(() => {
    if (!isSignedIn) return undefined;
    const look = () => void known();
    addEventListener(NOT_SIGNED_IN, look);
    return () => removeEventListener(NOT_SIGNED_IN, look);
  }, [isSignedIn, known]);

  const value = useMemo(
    () => ({ user: session?.user, flowerUrl: session?.flower_url ?? null, error, ask: known, signIn, signOut }),
    [session, error, known, signIn, signOut],
  );
  return <Context value={value}>{children}</Context>;
}

export function useSession(): Known {
  const session = useContext(Context);
  if (!session) throw new Error("There is no SessionProvider above.");
  return session;
}
