import { Link, useSearchParams } from "wouter";

import { api, ask, type Order } from "../api/client";
import { moment, money } from "../format";
import { useLoad } from "../load";
import { Page } from "../parts/Page";
import { Pager } from "../parts/Pager";
import { Empty, Failure, Skeleton } from "../parts/states";
import { useSession } from "../session";
import { text } from "../text";

const SIZE = 20;

export function Orders() {
  const { user } = useSession();
  const [params, setParams] = useSearchParams();
  const page = Math.max(1, Number(params.get("page")) || 1);
  const { value, error, loading, reload } = useLoad(`orders ${page}`, (signal) =>
    ask(api.GET("/api/orders/", { params: { query: { page, page_size: SIZE } }, signal })),
  );
  const words = text.orders;
  return (
    <Page title={user?.is_staff ? words.titleStaff : words.title}>
      {error && <Failure error={error} retry={reload} />}
      {!value && loading && <Skeleton rows={6} />}
      {value?.count === 0 && (
        <Empty
          title={words.empty}
          action={
            <Link href="/" className="button">
              {text.cart.toShop}
            </Link>
          }
        >
          {words.emptyHint}
        </Empty>
      )}
      {value && value.count > 0 && (
        <>
          <div className="table-frame">
            <table className="orders">
              <thead>
                <tr>
                  <th scope="col">{words.id}</th>
                  <th scope="col">{words.when}</th>
                  <th scope="col">{words.what}</th>
                  <th scope="col">{words.status}</th>
                  <th scope="col" className="amount">
                    {words.total}
                  </th>
                </tr>
              </thead>
              <tbody>
                {value.results.map((order) => (
                  <Row key={order.id} order={order} />
                ))}
              </tbody>
            </table>
          </div>
          <Pager count={value.count} size={SIZE} page={page} go={(to) => setParams({ page: String(to) })} />
        </>
      )}
    </Page>
  );
}

function Row({ order }: { order: Order }) {
  const things = order.items.reduce((sum, item) => sum + item.quantity, 0);
  return (
    <tr>
      <td>
        <Link href={`/orders/${order.id}`}>{text.order.title(order.id)}</Link>
      </td>
      <td>
        <time dateTime={order.placed_at}>{moment(order.placed_at)}</time>
      </td>
      <td className="orders-what">
        {text.orders.items(things)}
        <span className="hint">{order.items.map((item) => item.title).join(", ")}</span>
      </td>
      <td>
        <span className={`state ${order.status}`}>{text.order.statuses[order.status]}</span>
      </td>
      <td className="amount">{money(order.total, order.currency)}</td>
    </tr>
  );
}
