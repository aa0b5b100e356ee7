/** The shop's API as this page's own client: typed by the OpenAPI document, signed in by the session's cookie. */
import createClient, { type Middleware } from "openapi-fetch";

import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Cart = Schemas["Cart"];
export type Order = Schemas["Order"];
export type ShippingAddress = Schemas["ShippingAddressRequest"];
export type ToldAddress = Schemas["ToldAddress"];
export type Country = ShippingAddress["country"];
export type OrderTask = Schemas["OrderTask"];
export type Problem = Schemas["Problem"];
export type Product = Schemas["Product"];
export type Collection = Schemas["Collection"];
export type Notification = Schemas["Notification"];
export type Preferences = Schemas["Preferences"];
export type Kinds = Required<Schemas["Kinds"]>;
export type Channel = keyof Schemas["Channels"];
export type QuietHours = Schemas["QuietHours"];
export type Queue = Schemas["Queue"];
export type QueueSeries = Schemas["QueueSeries"];
export type DeadGroup = Schemas["Group"];
export type DeadTask = Schemas["DeadTask"];
export type Message = Schemas["Message"];
export type Phone = Schemas["Phone"];
export type Block = Schemas["Block"];
export type MachineryProblem = Schemas["MachineryProblem"];
export type SignIn = Schemas["SignIn"];
export type Failing = Schemas["Failing"];
export type FoundTask = Schemas["Task"];
export type TaskSearch = NonNullable<paths["/api/ops/tasks/"]["get"]["parameters"]["query"]>;
export type DecideRequest = Schemas["DecideRequest"];
export type Life = Schemas["Life"];
export type TaskEvent = Schemas["Event"];
export type Canvas = Schemas["Canvas"];
export type CanvasNode = Schemas["Node"];
export type CanvasCall = Schemas["Call"];
export type FiguresLine = Schemas["Line"];
export type Schedule = Schemas["Schedule"];
export type TellSchedule = Schemas["TellScheduleRequest"];
export type Process = Schemas["Process"];
export type Limit = Schemas["Limit"];
export type Tell = Schemas["TellRequest"];
export type Session = Schemas["Session"];

/** An error response, as defined by RFC 9457. */
export class ProblemError extends Error {
  constructor(
    readonly problem: Problem,
    readonly retryAfter: number | null = null,
  ) {
    super(problem.detail || problem.title);
  }

  get status(): number {
    return this.problem.status;
  }

  /** The errors of each field of the request, by name; the name "" stands for the request itself. */
  of(field: string): string {
    const pointer = field ? `/${field}` : "";
    const found = (this.problem.errors ?? []).filter((each) => each.pointer === pointer);
    return found.map((each) => each.detail).join(" ");
  }
}

/** Dispatched on the window when the session has ended, perhaps in another window. */
export const NOT_SIGNED_IN = "shopwire:not-signed-in";

/** There was no response: no network, or no shop. It is unknown whether the request arrived. */
export class NoAnswerError extends Error {}

function cookie(name: string): string {
  const found = document.cookie.split("; ").find((each) => each.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

const carriesToken: Middleware = {
  onRequest({ request }) {
    if (!["GET", "HEAD"].includes(request.method)) request.headers.set("X-CSRFToken", cookie("csrftoken"));
    return request;
  },
};

export const api = createClient<paths>({ baseUrl: location.origin, credentials: "same-origin", fetch: (request) => fetch(request) });
api.use(carriesToken);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/**
 * Return the data of a call of {@link api}.
 *
 * Throws ProblemError if the shop refused, NoAnswerError if there was no response.
 */
export async function ask<T>(call: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new NoAnswerError(String(error), { cause: error });
  }
  const { data, error, response } = answer;
  if (response.ok) return data as T;
  if (response.status === 401) window.dispatchEvent(new Event(NOT_SIGNED_IN));
  const seconds = Number(response.headers.get("Retry-After"));
  throw new ProblemError(problemOf(error, response), seconds > 0 ? seconds : null);
}

function problemOf(error: unknown, response: Response): Problem {
  if (typeof error === "object" && error !== null && "title" in error) return error as Problem;
  return { type: "about:blank", title: response.statusText, status: response.status, detail: "" };
}
