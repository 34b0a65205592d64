"""Pieces of a family: what several say in the same words, written once. A family inherits those that fit it.

`conditions` class indices with a null row, `prompts` features of a text encoder, `noise` and `codes` what is predicted
and how it is scored, `sampling` the network's batch under a guidance, `decoding` codes one after the other, `declared`
hooks that are functions, tables or rules, `official` weights of others in and the temperature folded out. A hook of the
family's own takes the place of a piece's.
"""

from gftzoo.contract.pieces.codes import AllCodes as AllCodes
from gftzoo.contract.pieces.codes import CodePrediction as CodePrediction
from gftzoo.contract.pieces.codes import CodeProblem as CodeProblem
from gftzoo.contract.pieces.codes import CodeSampling as CodeSampling
from gftzoo.contract.pieces.codes import refuse_continuous as refuse_continuous
from gftzoo.contract.pieces.conditions import ClassConditions as ClassConditions
from gftzoo.contract.pieces.declared import MatrixDecay as MatrixDecay
from gftzoo.contract.pieces.declared import OwnTokenizers as OwnTokenizers
from gftzoo.contract.pieces.declared import hook as hook
from gftzoo.contract.pieces.decoding import DecodingSettings as DecodingSettings
from gftzoo.contract.pieces.decoding import PartSettings as PartSettings
from gftzoo.contract.pieces.decoding import cosine_power as cosine_power
from gftzoo.contract.pieces.decoding import decode as decode
from gftzoo.contract.pieces.decoding import refuse_ramp as refuse_ramp
from gftzoo.contract.pieces.noise import NoisedProblem as NoisedProblem
from gftzoo.contract.pieces.noise import NoisePrediction as NoisePrediction
from gftzoo.contract.pieces.noise import squared_error as squared_error
from gftzoo.contract.pieces.official import OfficialWeights as OfficialWeights
from gftzoo.contract.pieces.prompts import PromptConditions as PromptConditions
from gftzoo.contract.pieces.prompts import away_from as away_from
from gftzoo.contract.pieces.prompts import encoder_of as encoder_of
from gftzoo.contract.pieces.sampling import SamplerChoice as SamplerChoice
from gftzoo.contract.pieces.sampling import Steered as Steered
from gftzoo.contract.pieces.sampling import ramp as ramp
