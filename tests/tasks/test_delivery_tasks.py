from modelyard.adapters.workspace import Workspace
from tasks.data import open_delivery
from tasks.evaluation import gate_candidate
from tasks.images import build_release
from tasks.registration import promote_release, register_release
from tasks.rollout import roll_out
from tasks.training import train_candidate
from tests.projects import FIRST, MODEL

def test_chain(workspace: Workspace) -> None:
    import time
    t=time.time()
    def lap(n):
        nonlocal t
        print(n, round(time.time()-t,2)); t=time.time()
    d = open_delivery.fn(MODEL, "first", FIRST); lap("open")
    c = train_candidate.fn(d); lap("train")
    g = gate_candidate.fn(d, c); lap("gate"); print(g.decision.reasons)
    r = register_release.fn(d, c, g); lap("reg")
    b = build_release.fn(d, c, r); lap("build")
    s = roll_out.fn(d, r, b); lap("roll")
    promote_release.fn(d, r, b, g, s); lap("promote")
    print(s)
