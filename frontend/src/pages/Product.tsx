import { useState } from "react";
import { Link } from "wouter";
import { useHistoryState } from "wouter/use-browser-location";

import { api, ask, ProblemError } from "../api/client";
import { leftOf, useCart } from "../cart";
import { money } from "../format";
import { useLoad } from "../load";
import { Artwork } from "../parts/Artwork";
import { Page } from "../parts/Page";
import { Quantity } from "../parts/Quantity";
import { Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { text } from "../text";
import { NotFound } from "./NotFound";

export function Product({ id }: { id: number }) {
  const { value: product, error, reload } = useLoad(`product ${id}`, (signal) =>
    ask(api.GET("/api/products/{id}/", { params: { path: { id: String(id) } }, signal })),
  );
  const { cart, add } = useCart();
  const fromShop = useHistoryState<{ fromShop?: boolean } | null>()?.fromShop;
  const say = useToast();
  const [quantity, setQuantity] = useState(1);
  const [busy, setBusy] = useState(false);

  if (error instanceof ProblemError && error.status === 404) return <NotFound />;
  const left = product ? leftOf(product, cart) : 1;
  async function put() {
    if (!product || busy) return;
    setBusy(true);
    try {
      await add(product.id, Math.min(quantity, left));
      setQuantity(1);
      say(text.catalogue.added(product.title));
    } catch (reason) {
      say(wordsFor(reason as Error), true);
    } finally {
      setBusy(false);
    }
  }
  return (
    <Page title={product?.title ?? text.loading}>
      <p className="back">
        <Link
          href="/"
          onClick={(event) => {
            if (!fromShop) return;
            event.preventDefault(); // Where one was in the shop, with what one searched for.
            history.back();
          }}
        >
          ← {text.product.back}
        </Link>
      </p>
      {error && <Failure error={error} retry={reload} />}
      {!product && !error && <Skeleton rows={1} className="skeleton-product" />}
      {product && (
        <div className="product">
          <Artwork sku={product.sku} />
          <div className="product-facts">
            <p className="price large">{money(product.unit_price, product.currency)}</p>
            <p className={product.available > 0 ? "stock" : "stock none"}>
              {product.available > 0 ? text.product.available(product.available) : text.catalogue.soldOut}
            </p>
            <div className="buy">
              <Quantity label={text.product.quantity} value={quantity} available={left} change={setQuantity} />
              <button
                type="button"
                className="button"
                disabled={product.available <= 0}
                aria-disabled={busy || left <= 0 || undefined}
                onClick={() => (left > 0 ? void put() : say(text.catalogue.allInCart))}
              >
                {text.catalogue.add}
              </button>
            </div>
            {product.available > 0 && left <= 0 && <p className="hint">{text.catalogue.allInCart}</p>}
            <p className="hint">{text.product.promise}</p>
            <p className="hint">
              {text.product.sku} <code>{product.sku}</code>
            </p>
          </div>
        </div>
      )}
    </Page>
  );
}
