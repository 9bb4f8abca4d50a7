"""The cases of durability.py at length."""
from durability import late, lose
from fault_lab import case


@case
def server_that_forgets_500_times(lab):
    lose(lab, restarts=500, seconds=250)


@case
def writes_half_a_minute_late(lab):
    late(lab, delays=60, seconds=180, late_s=30)
