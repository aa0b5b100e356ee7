import { type FormEvent, useEffect, useRef, useState } from "react";

import { ProblemError } from "./api/client";
import { wordsFor } from "./parts/states";

/** A submitted form: its errors, and which field receives the focus if it was refused. */
export function useForm(submit: (fields: Record<string, string>, form: HTMLFormElement) => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error>();
  const sent = useRef<HTMLFormElement>(null);
  async function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = (sent.current = event.currentTarget);
    const fields = Object.fromEntries(new FormData(form)) as Record<string, string>;
    setBusy(true);
    setError(undefined);
    try {
      await submit(fields, form);
    } catch (reason) {
      setError(reason as Error);
    }
    setBusy(false);
  }
  useEffect(() => {
    // The button was disabled while it was busy and lost the focus: move it to the field to be corrected.
    if (!error || !sent.current) return;
    const field = ["[aria-invalid=true]", "input[type=password]", "input"].map((which) => sent.current!.querySelector<HTMLInputElement>(which)).find(Boolean);
    field?.focus();
  }, [error]);
  const of = (field: string) => (error instanceof ProblemError ? error.of(field) || undefined : undefined);
  const named = error instanceof ProblemError && Boolean(error.problem.errors?.length);
  return {
    busy,
    error,
    of,
    /** Errors that belong to no field of the form. */
    wrong: error && !named ? wordsFor(error) : undefined,
    onSubmit: (event: FormEvent<HTMLFormElement>) => void send(event),
  };
}
