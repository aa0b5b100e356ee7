import { useEffect, useState } from "react";
import { Link } from "wouter";

import { api, ask, type Notification } from "../api/client";
import { shortMoment } from "../format";
import { useLive } from "../live/provider";
import { useLoad } from "../load";
import { Page } from "../parts/Page";
import { Pager } from "../parts/Pager";
import { Empty, Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { tellOthers } from "../tabs";
import { text } from "../text";

const SIZE = 20;

/** Return the page that a notification is about, if there is one. */
export function pageOf({ kind, data }: Pick<Notification, "kind" | "data">): string | null {
  const about = (typeof data === "object" && data !== null ? data : {}) as { order?: number; product?: number };
  if (kind === "message") return "/messages";
  if (about.order) return `/orders/${about.order}`;
  if (about.product) return `/products/${about.product}`;
  return null;
}

/** The user's notifications, live; they can be marked as read one by one or all at once. */
export function NotificationsTab() {
  const [all, setAll] = useState(false);
  const [page, setPage] = useState(1);
  const { unread, recount, listen } = useLive();
  const say = useToast();
  const list = useLoad(`${all} ${page}`, (signal) =>
    ask(api.GET("/api/notifications/", { signal, params: { query: { page, page_size: SIZE, ...(all && { all: "1" as const }) } } })),
  );
  const { value, error, loading, reload } = list;
  useEffect(() => listen(({ id }) => id !== null && reload(), reload), [listen, reload]);

  async function change(act: Promise<unknown>) {
    try {
      await act;
    } catch (reason) {
      say(wordsFor(reason as Error), true);
    }
    recount();
    reload();
    tellOthers("read");
  }
  const markAll = async () => {
    const { read } = await ask(api.POST("/api/notifications/read-all/", { body: {} }));
    setPage(1);
    say(text.notifications.markedAll(read));
  };
  const mark = (id: number) => ask(api.POST("/api/notifications/{id}/read/", { params: { path: { id: String(id) } }, body: {} }));
  const choose = (which: boolean) => {
    setAll(which);
    setPage(1);
  };
  const words = text.notifications;
  return (
    <Page
      title={words.title}
      aside={
        <Link href="/account" className="button quiet">
          {words.preferences}
        </Link>
      }
    >
      <div className="list-head">
        <div className="choice" role="group" aria-label={words.which}>
          <button type="button" aria-pressed={!all} onClick={() => choose(false)}>
            {words.unread} <span className="count">{unread}</span>
          </button>
          <button type="button" aria-pressed={all} onClick={() => choose(true)}>
            {words.all}
          </button>
        </div>
        <button type="button" className="link" disabled={unread === 0} onClick={() => void change(markAll())}>
          {words.markAll}
        </button>
      </div>
      {error && <Failure error={error} retry={reload} />}
      {!value && loading && <Skeleton rows={5} />}
      {value?.results.length === 0 && <Empty title={words.empty}>{words.emptyHint}</Empty>}
      {value && value.results.length > 0 && (
        <>
          <ul className="notifications">
            {value.results.map((each) => (
              <Row key={each.id} notification={each} read={() => void change(mark(each.id))} />
            ))}
          </ul>
          <Pager count={value.count} size={SIZE} page={page} go={setPage} />
        </>
      )}
    </Page>
  );
}

function Row({ notification, read }: { notification: Notification; read: () => void }) {
  const words = text.notifications;
  const page = pageOf(notification);
  return (
    <li className={notification.read ? "notification" : "notification fresh"} data-id={notification.id}>
      <span className="fresh-dot" aria-hidden="true" />
      <div>
        <p className="notification-head">
          <strong>{words.kinds[notification.kind] ?? notification.kind}</strong>
          {!notification.read && <span className="unseen">{words.new}</span>}
          <time className="hint" dateTime={notification.created}>
            {shortMoment(notification.created)}
          </time>
        </p>
        <p>{notification.message}</p>
      </div>
      <div className="notification-acts">
        {page && (
          <Link href={page} className="button small quiet" onClick={() => !notification.read && read()}>
            {words.look}
          </Link>
        )}
        {!notification.read && (
          <button type="button" className="link" onClick={read}>
            {words.markRead}
          </button>
        )}
      </div>
    </li>
  );
}
