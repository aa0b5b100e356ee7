/* Shows pushes of the shop, each once: its notification's id is the tag, and a second copy takes the first one's place. */

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

/** Where a notification leads to: an address of this site. */
function addressOf({ kind, data }) {
  if (data && Number.isInteger(data.order) && kind.startsWith("order_")) return `/orders/${data.order}`;
  return kind === "message" ? "/messages" : "/notifications";
}

self.addEventListener("push", (event) => {
  let told;
  try {
    told = event.data.json();
  } catch {
    told = { id: 0, kind: "announcement", title: "Shopwire", body: "There is something new.", data: {} };
  }
  event.waitUntil(
    self.registration.showNotification(told.title, {
      body: told.body,
      tag: `shopwire-${told.id}`,
      data: { address: addressOf(told) },
    }),
  );
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const { address } = event.notification.data;
  event.waitUntil(
    (async () => {
      const [page] = await self.clients.matchAll({ type: "window" });
      if (!page) return self.clients.openWindow(address);
      await page.focus();
      return page.navigate(address);
    })(),
  );
});
