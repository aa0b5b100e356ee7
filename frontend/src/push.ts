/** Web Push: this browser's subscription, known to its push service and to the shop. */
import { api, ask, ProblemError } from "./api/client";

/** The script that shows pushes. The shop serves it at the root, from where it minds every page. */
const WORKER = "/sw.js";
/** Whose notifications this browser's subscription is for. */
const KEPT = "shopwire.push";

/** Why this browser gets no pushes: it cannot, its user said no, its push service is away, or the shop sends none. */
export type Obstacle = "unable" | "denied" | "failed" | "none";

export class PushError extends Error {
  constructor(readonly obstacle: Obstacle, options?: ErrorOptions) {
    super(obstacle, options);
  }
}

export function isAble(): boolean {
  return "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
}

async function subscriptionHere(): Promise<PushSubscription | null> {
  const registration = isAble() ? await navigator.serviceWorker.getRegistration("/") : undefined;
  return (await registration?.pushManager.getSubscription()) ?? null;
}

/** Return whether this browser takes pushes for a user; those of an earlier user do not count. */
export async function isOn(user: number): Promise<boolean> {
  return localStorage.getItem(KEPT) === String(user) && Boolean(await subscriptionHere());
}

/**
 * Subscribe this browser, and have the shop push to it what `user`, who is signed in, is told.
 *
 * Throws PushError with what stands in the way, or what {@link ask} throws.
 */
export async function turnOn(user: number): Promise<void> {
  if (!isAble()) throw new PushError("unable");
  const key = await publicKey();
  if ((await Notification.requestPermission()) !== "granted") throw new PushError("denied");
  await navigator.serviceWorker.register(WORKER);
  const registration = await navigator.serviceWorker.ready;
  let subscription: PushSubscription;
  try {
    subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  } catch (cause) {
    throw new PushError("failed", { cause });
  }
  const { endpoint, keys } = subscription.toJSON();
  try {
    await ask(api.POST("/api/save-sub/", { body: { endpoint: endpoint!, keys: { p256dh: keys!.p256dh!, auth: keys!.auth! } } }));
  } catch (error) {
    await subscription.unsubscribe();
    throw error;
  }
  localStorage.setItem(KEPT, String(user));
}

/** End this browser's subscription, and have the shop forget it. One that the shop is not told of, it forgets at its next push. */
export async function turnOff(): Promise<void> {
  const subscription = await subscriptionHere();
  localStorage.removeItem(KEPT);
  if (!subscription) return;
  await subscription.unsubscribe();
  try {
    // OpenAPI describes no bodies of DELETE; the shop takes one.
    await ask(api.DELETE("/api/save-sub/", { body: { endpoint: subscription.endpoint } as never }));
  } catch (error) {
    // The shop knows nothing of it any more, which is what is wanted.
    if (!(error instanceof ProblemError && error.status === 404)) throw error;
  }
}

async function publicKey(): Promise<string> {
  try {
    return (await ask(api.GET("/api/push/public-key/"))).public_key;
  } catch (error) {
    throw error instanceof ProblemError && error.status === 404 ? new PushError("none") : error;
  }
}
