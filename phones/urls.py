"""The URLs of the user's own number, below ``/api/customers/me/phone/``."""

from django.urls import path

from phones import views

urlpatterns = [
    path("", views.PhoneView.as_view()),
    path("code/", views.CodeView.as_view()),
    path("verify/", views.VerifyView.as_view()),
]
