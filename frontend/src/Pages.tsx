import { type ReactNode } from "react";
import { Redirect, Route, Switch, useLocation } from "wouter";

import { Page } from "./parts/Page";
import { Failure, Skeleton } from "./parts/states";
import { Account } from "./pages/Account";
import { Cart } from "./pages/Cart";
import { Catalogue } from "./pages/Catalogue";
import { Messages } from "./pages/Messages";
import { NotFound } from "./pages/NotFound";
import { NotificationsTab } from "./pages/NotificationsTab";
import { Operations } from "./pages/Operations";
import { Order } from "./pages/Order";
import { Orders } from "./pages/Orders";
import { Product } from "./pages/Product";
import { Register, SignIn } from "./pages/SignIn";
import { useSession } from "./session";
import { text } from "./text";

/** Every page. The web process knows the same addresses, in core/urls.py. */
export function Pages() {
  return (
    <Switch>
      <Route path="/">
        <Catalogue />
      </Route>
      <Route path="/products/:id">{({ id }) => <Product key={id} id={Number(id)} />}</Route>
      <Route path="/cart">
        <Cart />
      </Route>
      <Route path="/sign-in">
        <SignIn />
      </Route>
      <Route path="/register">
        <Register />
      </Route>
      <Route path="/orders">
        <SignedIn>
          <Orders />
        </SignedIn>
      </Route>
      <Route path="/orders/:id">
        {({ id }) => (
          <SignedIn>
            <Order key={id} id={Number(id)} />
          </SignedIn>
        )}
      </Route>
      <Route path="/notifications">
        <SignedIn>
          <NotificationsTab />
        </SignedIn>
      </Route>
      <Route path="/messages">
        <SignedIn>
          <Messages />
        </SignedIn>
      </Route>
      <Route path="/account">
        <SignedIn>
          <Account />
        </SignedIn>
      </Route>
      <Route path="/operations">
        <SignedIn staff>
          <Operations />
        </SignedIn>
      </Route>
      <Route>
        <NotFound />
      </Route>
    </Switch>
  );
}

/** What is for people who are signed in: others are asked to, and come back. */
function SignedIn({ children, staff = false }: { children: ReactNode; staff?: boolean }) {
  const { user, error, ask } = useSession();
  const [here] = useLocation();
  if (user === undefined) {
    return (
      <Page title={text.shop}>{error ? <Failure error={error} retry={() => void ask()} /> : <Skeleton rows={4} />}</Page>
    );
  }
  if (user === null) return <Redirect to={`/sign-in?next=${encodeURIComponent(here)}`} replace />;
  return staff && !user.is_staff ? <NotFound /> : children;
}
