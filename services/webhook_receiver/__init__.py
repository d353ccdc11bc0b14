"""Webhook-receiver: takes in what happens outside, proves who sent it, stores it, and reads the task at its source.

Hears   DeliveryDecided, ResourceApplied
Says    TaskReceived
Owns    deliveries, refused_deliveries, memberships, poll_cursors
Never   decides whether a run may happen, and never says no to an event it can store
"""
