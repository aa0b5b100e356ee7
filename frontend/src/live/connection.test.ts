import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { BETTER, type Ears, type Kind, LiveConnection, type LiveEvent, OPENING, PATIENCE, PAUSE, type State } from "./connection";

interface Opened {
  kind: Kind;
  after: number | null;
  ears: Ears<LiveEvent>;
  shut: boolean;
}

const opened: Opened[] = [];
const states: State[] = [];
const heard: (number | null)[] = [];
let fresh = 0;

function transport(kind: Kind) {
  return (after: number | null, ears: Ears<LiveEvent>) => {
    const one: Opened = { kind, after, ears, shut: false };
    opened.push(one);
    return () => {
      one.shut = true;
    };
  };
}

const latest = () => opened.at(-1)!;
const open = () => opened.filter((one) => !one.shut);

function connect(): LiveConnection<LiveEvent> {
  const connection = new LiveConnection(
    { websocket: transport("websocket"), sse: transport("sse"), polling: transport("polling") },
    { changed: (state) => states.push(state), heard: (event) => heard.push(event.id), opened: () => (fresh += 1) },
  );
  connection.start();
  return connection;
}

/** Make the current transport fail until the next is tried. */
function exhaust() {
  const { kind } = latest();
  for (let failure = 0; failure < PATIENCE; failure += 1) {
    expect(latest().kind).toBe(kind);
    latest().ears.closed();
    vi.advanceTimersByTime(PAUSE * (failure + 1));
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  opened.length = states.length = heard.length = fresh = 0;
});
afterEach(() => vi.useRealTimers());

describe("a live connection", () => {
  it("begins with a WebSocket and is live once that is open", () => {
    const connection = connect();
    expect(latest()).toMatchObject({ kind: "websocket", after: null });
    expect(connection.state).toBe("connecting");

    latest().ears.opened();

    expect(connection.state).toBe("websocket");
    expect(fresh).toBe(1);
  });

  it("falls back to the event stream and then to polling, and has one transport open at a time", () => {
    const connection = connect();
    exhaust();
    expect(latest().kind).toBe("sse");
    exhaust();
    expect(latest().kind).toBe("polling");
    latest().ears.opened();

    expect(connection.state).toBe("polling");
    expect(open()).toHaveLength(1);
  });

  it("gives up a transport that does not open in time", () => {
    connect();
    for (let failure = 1; failure <= PATIENCE; failure += 1) vi.advanceTimersByTime(OPENING + PAUSE * failure);

    expect(latest().kind).toBe("sse");
  });

  it("goes on after the last event it heard, whatever the transport", () => {
    connect();
    latest().ears.opened();
    latest().ears.heard({ id: 41 });
    latest().ears.heard({ id: 42 });
    exhaust();

    expect(latest()).toMatchObject({ kind: "sse", after: 42 });
  });

  it("tells every event once, and nothing of what a closed transport still says", () => {
    connect();
    const first = latest();
    first.ears.opened();
    first.ears.heard({ id: 1 });
    first.ears.closed();
    first.ears.heard({ id: 2 });
    first.ears.closed();
    vi.advanceTimersByTime(PAUSE);
    latest().ears.opened();
    latest().ears.heard({ id: 1 });
    latest().ears.heard({ id: 2 });

    expect(heard).toEqual([1, 2]);
  });

  it("passes on news that have no id, and forgets them", () => {
    connect();
    latest().ears.opened();
    latest().ears.heard({ id: 5 });
    latest().ears.heard({ id: null });
    latest().ears.closed();
    vi.advanceTimersByTime(PAUSE);

    expect(heard).toEqual([5, null]);
    expect(latest().after).toBe(5);
  });

  it("tries a WebSocket again after a while on something lesser", () => {
    const connection = connect();
    exhaust();
    latest().ears.opened();
    expect(connection.state).toBe("sse");

    vi.advanceTimersByTime(BETTER);
    expect(latest().kind).toBe("websocket");
    latest().ears.opened();

    expect(connection.state).toBe("websocket");
    expect(open()).toHaveLength(1);
  });

  it("tries a WebSocket again also while polling, each answer of which says that it works", () => {
    const connection = connect();
    exhaust();
    exhaust();
    for (let waited = 0; waited <= BETTER && latest().kind === "polling"; waited += 10_000) {
      latest().ears.opened();
      vi.advanceTimersByTime(10_000);
    }

    expect(latest().kind).toBe("websocket");
    expect(fresh).toBe(BETTER / 10_000);
    expect(connection.state).toBe("connecting");
  });

  it("tries what keeps failing ever less often, and at once when the network is another one", () => {
    const connection = connect();
    const waits: number[] = [];
    for (let times = 0; times < 7; times += 1) {
      exhaust();
      latest().ears.opened();
      let waited = 0;
      for (; latest().kind === "sse"; waited += BETTER) vi.advanceTimersByTime(BETTER);
      waits.push(waited / BETTER);
    }
    expect(waits).toEqual([1, 2, 4, 8, 15, 15, 15]);

    connection.network(false);
    connection.network(true);
    exhaust();
    latest().ears.opened();
    vi.advanceTimersByTime(BETTER);

    expect(latest().kind).toBe("websocket");
  });

  it("forgets failures once it is open", () => {
    connect();
    for (let lost = 0; lost < 5; lost += 1) {
      latest().ears.opened();
      latest().ears.closed();
      vi.advanceTimersByTime(PAUSE);
    }

    expect(latest().kind).toBe("websocket");
  });

  it("keeps asking when nothing works, never more than one at a time", () => {
    connect();
    exhaust();
    exhaust();
    for (let minute = 0; minute < 5; minute += 1) {
      latest().ears.closed();
      expect(open()).toHaveLength(0);
      vi.advanceTimersToNextTimer();
      expect(open()).toHaveLength(1);
    }
    expect(latest().kind).toBe("polling");
  });

  it("waits without a network, and begins anew with one", () => {
    const connection = connect();
    latest().ears.opened();
    latest().ears.heard({ id: 7 });
    connection.network(false);
    expect(connection.state).toBe("offline");
    expect(open()).toHaveLength(0);
    vi.advanceTimersByTime(10 * BETTER);
    expect(open()).toHaveLength(0);

    connection.network(true);

    expect(latest()).toMatchObject({ kind: "websocket", after: 7 });
    expect(open()).toHaveLength(1);
  });

  it("is over when it is stopped", () => {
    const connection = connect();
    latest().ears.opened();
    connection.stop();
    connection.network(true);
    vi.advanceTimersByTime(10 * BETTER);

    expect(open()).toHaveLength(0);
    expect(states.at(-1)).toBe("off");
  });

  it("copes with a transport that fails while it is being opened", () => {
    const dead = (_after: number | null, ears: Ears<LiveEvent>) => {
      ears.closed();
      return () => undefined;
    };
    const connection = new LiveConnection(
      { websocket: dead, sse: dead, polling: transport("polling") },
      { changed: () => undefined, heard: () => undefined, opened: () => undefined },
    );
    connection.start();
    vi.advanceTimersByTime(10 * PAUSE);
    latest().ears.opened();

    expect(connection.state).toBe("polling");
  });
});
