from .case import PhantomCase as PhantomCase, generate_case as generate_case
from .phantom_ct import PhantomCT as PhantomCT
from .plan import Plan as Plan, sample_plan as sample_plan
from .reasoning import write_report as write_report
