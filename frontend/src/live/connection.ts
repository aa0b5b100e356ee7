/**
 * One live connection to the shop: WebSocket, or else an event stream, or else polling every ten seconds.
 *
 * It promises to deliver every event that has an id once and in order, across all changes of transport, because each
 * transport starts after the last event received. A transport that failed is tried again later.
 */

export interface LiveEvent {
  /** Grows from event to event; null for events that are sent once and not stored. */
  id: number | null;
}

export type Kind = "websocket" | "sse" | "polling";
export type State = "off" | "connecting" | Kind | "offline";

export interface Ears<E extends LiveEvent> {
  /** It works. Earlier events may have been missed if nothing had been received yet. */
  opened: () => void;
  heard: (event: E) => void;
  /** It does not work, or no longer. Called at most once, and last. */
  closed: () => void;
}

/** Opens a transport for events after the event `after` (null: from now on); returns a function that closes it. */
export type Transport<E extends LiveEvent> = (after: number | null, ears: Ears<E>) => () => void;

/** In the order in which they are tried. */
export const ORDER: readonly Kind[] = ["websocket", "sse", "polling"];
/** Failures in a row of one transport before the next is tried. */
export const PATIENCE = 2;
/** Milliseconds between two attempts on the same transport, multiplied by its consecutive failures, up to the second number. */
export const PAUSE = 1000;
export const LONGEST_PAUSE = 10_000;
/** Milliseconds that a transport may take to open. */
export const OPENING = 5000;
/** Milliseconds on a lesser transport before the best is tried again: twice as long each time, up to the second number. */
export const BETTER = 60_000;
export const LONGEST_BETTER = 15 * 60_000;

interface Listener<E extends LiveEvent> {
  changed: (state: State) => void;
  heard: (event: E) => void;
  /** Events may have been missed: reload what is shown. */
  opened: () => void;
}

export class LiveConnection<E extends LiveEvent> {
  state: State = "off";
  private last: number | null = null;
  private choice = 0;
  private failures = 0;
  private better = BETTER;
  /** Incremented with every opened transport, so that calls by earlier ones are ignored. */
  private turn = 0;
  private shut: () => void = () => undefined;
  private timers = new Set<ReturnType<typeof setTimeout>>();

  constructor(
    private readonly transports: Record<Kind, Transport<E>>,
    private readonly listener: Listener<E>,
  ) {}

  /** Connect, starting with the best transport. */
  start(): void {
    this.choice = 0;
    this.failures = 0;
    this.open();
  }

  /** Disconnect. */
  stop(): void {
    this.end();
    this.enter("off");
  }

  /** The network is gone, or back. */
  network(online: boolean): void {
    if (this.state === "off" || online === (this.state !== "offline")) return;
    if (online) {
      this.better = BETTER;
      this.start();
      return;
    }
    this.end();
    this.enter("offline");
  }

  private open(): void {
    this.end();
    const turn = this.turn;
    const kind = ORDER[this.choice] as Kind;
    this.enter("connecting");
    this.after(OPENING, () => this.lost());
    const mine = (act: () => void) => () => turn === this.turn && act();
    const close = this.transports[kind](this.last, {
      opened: mine(() => this.opened(kind)),
      heard: (event) => turn === this.turn && this.hear(event),
      closed: mine(() => this.lost()),
    });
    // It may already be closed and replaced by another.
    if (turn === this.turn) this.shut = close;
    else close();
  }

  private opened(kind: Kind): void {
    this.failures = 0;
    if (this.state !== kind) {
      this.clearTimers();
      this.enter(kind);
      if (this.choice === 0) this.better = BETTER;
      else {
        this.after(this.better, () => this.start());
        this.better = Math.min(LONGEST_BETTER, 2 * this.better);
      }
    }
    this.listener.opened();
  }

  private hear(event: E): void {
    if (event.id !== null) {
      if (this.last !== null && event.id <= this.last) return;
      this.last = event.id;
    }
    this.listener.heard(event);
  }

  private lost(): void {
    this.end();
    this.enter("connecting");
    this.failures += 1;
    if (this.failures >= PATIENCE && this.choice < ORDER.length - 1) {
      this.failures = 0;
      this.choice += 1;
      this.open();
    } else {
      this.after(Math.min(LONGEST_PAUSE, PAUSE * this.failures), () => this.open());
    }
  }

  private end(): void {
    this.turn += 1;
    this.clearTimers();
    const shut = this.shut;
    this.shut = () => undefined;
    shut();
  }

  private enter(state: State): void {
    if (state === this.state) return;
    this.state = state;
    this.listener.changed(state);
  }

  private after(milliseconds: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, milliseconds);
    this.timers.add(timer);
  }

  private clearTimers(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }
}
