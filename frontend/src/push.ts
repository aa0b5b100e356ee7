/** Web Push: this browser's subscription, known to its push service and to the shop. */
import { api, ask, ProblemError } from "./api/client";

/** The service worker that shows push notifications. The shop serves it at the root, so that its scope is every page. */
const WORKER = "/sw.js";
/** The user whose notifications this browser's subscription is for. */
const KEPT = "shopwire.push";

/** Why this browser gets no pushes: it does not support them, its user refused, its push service is unavailable, or the shop sends none. */
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

/** Return whether this browser receives pushes for a user; a subscription of an earlier user does not count. */
export async function isOn(user: number): Promise<boolean> {
  return localStorage.getItem(KEPT) === String(user) && Boolean(await subscriptionHere());
}

/**
 * Subscribe this browser to the notifications of `user`, who is signed in.
 *
 * Throws PushError with the obstacle, or what {@link ask} throws.
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

/** End this browser's subscription, here and in the shop. If the shop cannot be told, it finds out at its next push. */
export async function turnOff(): Promise<void> {
  const subscription = await subscriptionHere();
  localStorage.removeItem(KEPT);
  if (!subscription) return;
  await subscription.unsubscribe();
  try {
    // OpenAPI describes no body for DELETE; the shop accepts one.
    await ask(api.DELETE("/api/save-sub/", { body: { endpoint: subscription.endpoint } as never }));
  } catch (error) {
    // The shop does not have it any more, which is the goal.
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
