/** The three transports for the signed-in user's events. */
import { api, ask, type Notification } from "../api/client";
import type { Ears, Kind, Transport } from "./connection";

/** Tasks of an order have ended. */
interface OrderNews {
  id: null;
  order: number;
}

export type News = Notification | OrderNews;

/** Milliseconds between two polls, if nothing better works. */
const PACE = 10_000;
const PAGE = 100;

function websocket(after: number | null, { opened, heard, closed }: Ears<News>) {
  const address = new URL("/ws/notifications/", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  if (after !== null) address.searchParams.set("after", String(after));
  const socket = new WebSocket(address);
  socket.onopen = opened;
  socket.onclose = closed;
  socket.onmessage = ({ data }) => heard({ id: null, ...JSON.parse(data as string) } as News);
  return () => {
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close();
  };
}

function sse(after: number | null, { opened, heard, closed }: Ears<News>) {
  const source = new EventSource(`/api/notifications/sse/${after === null ? "" : `?after=${after}`}`);
  const hear = ({ data }: MessageEvent<string>) => heard({ id: null, ...JSON.parse(data) } as News);
  source.onopen = opened;
  source.onmessage = hear;
  source.addEventListener("order-tasks", hear);
  source.onerror = () => {
    source.close();
    closed();
  };
  return () => source.close();
}

/** Return the notifications after an id, and perhaps some before it, in order: at most the last page. */
async function newest(after: number | null): Promise<Notification[]> {
  const found: Notification[] = [];
  for (let page = 1; ; page += 1) {
    const query = { all: "1", page, page_size: PAGE } as const;
    const { results, next } = await ask(api.GET("/api/notifications/", { params: { query } }));
    found.push(...results);
    if (after === null || !next || results.some(({ id }) => id <= after)) return found.sort((one, other) => one.id - other.id);
  }
}

function polling(after: number | null, { opened, heard, closed }: Ears<News>) {
  let last = after;
  const look = async () => {
    try {
      const from = last;
      const found = await newest(from);
      opened();
      if (from !== null) found.filter(({ id }) => id > from).forEach(heard);
      last = Math.max(last ?? 0, found.at(-1)?.id ?? 0);
    } catch {
      closed();
    }
  };
  void look();
  const timer = setInterval(() => void look(), PACE);
  return () => clearInterval(timer);
}

export const transports: Record<Kind, Transport<News>> = { websocket, sse, polling };
