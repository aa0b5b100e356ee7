"""URLs of the shop's API, below ``/api/``."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from store import views

router = SimpleRouter()
router.register("products", views.ProductViewSet)
router.register("collections", views.CollectionViewSet)
router.register("orders", views.OrderViewSet)

urlpatterns = [
    path("customers/me/", views.MyProfileView.as_view()),
    path("carts/", views.CartsView.as_view()),
    path("carts/<uuid:cart_id>/", views.CartView.as_view()),
    path("carts/<uuid:cart_id>/claim/", views.CartClaimView.as_view()),
    path("carts/<uuid:cart_id>/items/", views.CartItemsView.as_view()),
    path("carts/<uuid:cart_id>/items/<int:item_id>/", views.CartItemView.as_view()),
    path("", include(router.urls)),
]
