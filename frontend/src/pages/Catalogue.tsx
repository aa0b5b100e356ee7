import { useEffect, useState } from "react";
import { Link, useSearchParams } from "wouter";

import { api, ask, type Product } from "../api/client";
import { leftOf, useCart } from "../cart";
import { money } from "../format";
import { useLoad } from "../load";
import { Artwork } from "../parts/Artwork";
import { Page } from "../parts/Page";
import { Pager } from "../parts/Pager";
import { Empty, Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { text } from "../text";

const SIZE = 24;
/** Milliseconds after the last key before a search starts. */
const TYPING = 250;
const PRICE = /^\d{1,10}(\.\d{1,2})?$/;
type Ordering = "id" | "title" | "unit_price" | "-unit_price" | "-available";
const FEW = 5;

export function Catalogue() {
  const [params, setParams] = useSearchParams();
  const filters = {
    search: params.get("search") ?? "",
    collection: params.get("collection") ?? "",
    min_price: params.get("min_price") ?? "",
    max_price: params.get("max_price") ?? "",
    in_stock: params.get("in_stock") === "true",
    ordering: params.get("ordering") ?? "id",
  };
  const page = Math.max(1, Number(params.get("page")) || 1);
  const shelves = useLoad("shelves", (signal) => ask(api.GET("/api/collections/", { params: { query: { page_size: 100 } }, signal })), { shared: true });
  const products = useLoad(
    `products ${params.toString()}`,
    (signal) => ask(
      api.GET("/api/products/", {
        signal,
        params: {
          query: {
            page,
            page_size: SIZE,
            ordering: [filters.ordering in text.catalogue.orderings ? (filters.ordering as Ordering) : "id"],
            ...(filters.search && { search: filters.search }),
            ...(filters.collection && { collection: Number(filters.collection) }),
            ...(PRICE.test(filters.min_price) && { min_price: filters.min_price }),
            ...(PRICE.test(filters.max_price) && { max_price: filters.max_price }),
            ...(filters.in_stock && { in_stock: true }),
          },
        },
      }),
    ),
    { shared: true },
  );

  function narrow(changes: Record<string, string>) {
    const next = new URLSearchParams(params);
    next.delete("page");
    for (const [name, value] of Object.entries(changes)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    setParams(next, { replace: true });
  }
  const narrowed = [...params.keys()].some((name) => name !== "page");
  const { value, error, loading } = products;
  return (
    <Page title={text.catalogue.title} lead={text.catalogue.lead}>
      <form className="filters" role="search" aria-label={text.catalogue.filters} onSubmit={(event) => event.preventDefault()}>
        <Typed
          className="filter search"
          label={text.catalogue.search}
          type="search"
          placeholder={text.catalogue.searchHint}
          maxLength={200}
          value={filters.search}
          settle={(search) => narrow({ search })}
        />
        <label className="filter">
          <span>{text.catalogue.collection}</span>
          <select value={filters.collection} onChange={(event) => narrow({ collection: event.target.value })}>
            <option value="">{text.catalogue.everything}</option>
            {shelves.value?.results.map((shelf) => (
              <option key={shelf.id} value={shelf.id}>
                {shelf.title} ({shelf.products_count})
              </option>
            ))}
          </select>
        </label>
        <label className="filter">
          <span>{text.catalogue.order}</span>
          <select value={filters.ordering} onChange={(event) => narrow({ ordering: event.target.value === "id" ? "" : event.target.value })}>
            {Object.entries(text.catalogue.orderings).map(([name, words]) => (
              <option key={name} value={name}>
                {words}
              </option>
            ))}
          </select>
        </label>
        <Typed
          className="filter price"
          label={text.catalogue.from}
          inputMode="decimal"
          value={filters.min_price}
          wrong={isWrong(filters.min_price)}
          settle={(min_price) => narrow({ min_price })}
        />
        <Typed
          className="filter price"
          label={text.catalogue.to}
          inputMode="decimal"
          value={filters.max_price}
          wrong={isWrong(filters.max_price)}
          settle={(max_price) => narrow({ max_price })}
        />
        <label className="filter check">
          <input
            type="checkbox"
            checked={filters.in_stock}
            onChange={(event) => narrow({ in_stock: event.target.checked ? "true" : "" })}
          />
          <span>{text.catalogue.inStock}</span>
        </label>
      </form>
      <div className="list-head">
        <p role="status">
          {isWrong(filters.min_price) ?? isWrong(filters.max_price) ?? (value ? text.catalogue.found(value.count) : " ")}
        </p>
        {narrowed && (
          <button type="button" className="link" onClick={() => setParams(new URLSearchParams(), { replace: true })}>
            {text.catalogue.clear}
          </button>
        )}
      </div>
      {error && <Failure error={error} retry={products.reload} />}
      {!value && loading && <Skeleton rows={8} className="skeleton-card" />}
      {value && value.count === 0 && !narrowed && <Empty title={text.catalogue.empty}>{text.catalogue.emptyHint}</Empty>}
      {value && value.count === 0 && narrowed && <Empty title={text.catalogue.none}>{text.catalogue.noneHint}</Empty>}
      {value && value.count > 0 && (
        <>
          <ul className="cards" aria-busy={loading}>
            {value.results.map((product) => (
              <Card key={product.id} product={product} />
            ))}
          </ul>
          <Pager count={value.count} size={SIZE} page={page} go={(to) => setParams(withPage(params, to))} />
        </>
      )}
    </Page>
  );
}

/** Return the error of an invalid price, which is not sent. */
function isWrong(price: string): string | undefined {
  return price && !PRICE.test(price) ? text.catalogue.badPrice : undefined;
}

function withPage(params: URLSearchParams, page: number): URLSearchParams {
  const next = new URLSearchParams(params);
  next.set("page", String(page));
  return next;
}

function Card({ product }: { product: Product }) {
  const { cart, add } = useCart();
  const say = useToast();
  const [busy, setBusy] = useState(false);
  const left = leftOf(product, cart);

  async function put() {
    if (busy) return;
    setBusy(true);
    try {
      await add(product.id, 1);
      say(text.catalogue.added(product.title));
    } catch (error) {
      say(wordsFor(error as Error), true);
    } finally {
      setBusy(false);
    }
  }
  return (
    <li className="card">
      <Link href={`/products/${product.id}`} state={{ fromShop: true }} className="card-link">
        <Artwork sku={product.sku} />
        <h2>{product.title}</h2>
      </Link>
      <div className="card-foot">
        <p className="price">{money(product.unit_price, product.currency)}</p>
        <Stock available={product.available} />
        <button
          type="button"
          className="button small"
          disabled={product.available <= 0}
          aria-disabled={busy || left <= 0 || undefined}
          title={product.available > 0 && left <= 0 ? text.catalogue.allInCart : undefined}
          onClick={() => (left > 0 ? void put() : say(text.catalogue.allInCart))}
        >
          {text.catalogue.add} <span className="unseen">{product.title}</span>
        </button>
      </div>
    </li>
  );
}

export function Stock({ available }: { available: number }) {
  if (available <= 0) return <p className="stock none">{text.catalogue.soldOut}</p>;
  if (available <= FEW) return <p className="stock few">{text.catalogue.few(available)}</p>;
  return null;
}

interface TypedProps {
  className: string;
  label: string;
  value: string;
  settle: (value: string) => void;
  type?: string;
  placeholder?: string;
  inputMode?: "decimal";
  maxLength?: number;
  /** The error of the value. */
  wrong?: string | undefined;
}

/** A text field that takes effect a moment after the last key. */
function Typed({ className, label, value, settle, wrong, ...input }: TypedProps) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed === value) return undefined;
    const timer = setTimeout(() => settle(typed.trim()), TYPING);
    return () => clearTimeout(timer);
  });
  return (
    <label className={className}>
      <span>{label}</span>
      <input value={typed} onChange={(event) => setTyped(event.target.value)} aria-invalid={wrong ? true : undefined} title={wrong} {...input} />
    </label>
  );
}
