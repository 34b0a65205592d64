"""Models on the Hugging Face Hub: their addresses, copies on this machine, and folders put there.

Only weights, cards and pictures travel; nothing of a repository is ever executed. No torch here.
"""

from gftzoo.hub.address import HubAddress as HubAddress
from gftzoo.hub.address import address_of as address_of
from gftzoo.hub.address import refuse_no_repository as refuse_no_repository
from gftzoo.hub.copies import LocalCopy as LocalCopy
from gftzoo.hub.copies import local_copy as local_copy
from gftzoo.hub.uploads import refuse_without_login as refuse_without_login
from gftzoo.hub.uploads import upload as upload
