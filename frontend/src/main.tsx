import "./style/index.css";

import { Component, type ReactNode, StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { CartProvider } from "./cart";
import { LiveProvider } from "./live/provider";
import { Pages } from "./Pages";
import { Layout } from "./parts/Layout";
import { Toasts } from "./parts/toasts";
import { SessionProvider } from "./session";
import { keepPlaces } from "./place";
import { locale, text } from "./text";

/** Shows something where a page would otherwise be blank. */
class Crash extends Component<{ children: ReactNode }, { crashed: boolean }> {
  override state = { crashed: false };

  static getDerivedStateFromError() {
    return { crashed: true };
  }

  override render() {
    if (!this.state.crashed) return this.props.children;
    return (
      <main className="page narrow">
        <h1>{text.errors.crash}</h1>
        <button type="button" className="button" onClick={() => location.reload()}>
          {text.errors.reload}
        </button>
      </main>
    );
  }
}

document.documentElement.lang = locale;
keepPlaces();
createRoot(document.getElementById("app")!).render(
  <StrictMode>
    <Crash>
      <SessionProvider>
        <CartProvider>
          <LiveProvider>
            <Toasts>
              <Layout>
                <Pages />
              </Layout>
            </Toasts>
          </LiveProvider>
        </CartProvider>
      </SessionProvider>
    </Crash>
  </StrictMode>,
);
